// What the fuzzers of the chips' answers lay down with a chip that does not lie yet, of either
// generation.
#pragma once

#include <openssl/sha.h>

#include "input.h"
#include "vtpm/base/result.h"
#include "vtpm/chip/chip.h"
#include "vtpm/engine/libtpms_engine.h"

namespace vtpm::fuzz {

template <typename T>
auto ok(Result<T> result) {
    if (!result)
        std::fprintf(stderr, "%s\n", result.error().context.c_str());
    must(result.has_value(), "an honest chip's answer is refused");
    if constexpr (std::is_void_v<T>)
        return true;
    else
        return std::move(*result);
}

// A TPM in the middle of its life.
struct Snapshot {
    SecretBytes permanent;
    SecretBytes running;
};

inline Snapshot snapshot_of(engine::LibtpmsEngine& tpm) {
    Snapshot snapshot;
    for (auto& change : tpm.take_changes()) {
        if (change.kind == engine::StateKind::permanent && change.content)
            snapshot.permanent = std::move(*change.content);
    }
    snapshot.running = ok(tpm.volatile_state());
    return snapshot;
}

inline engine::PowerOn gone_on(tpm::Version version, const Snapshot& snapshot) {
    engine::PowerOn start;
    start.version = version;
    start.blobs.push_back({engine::StateKind::permanent, snapshot.permanent.clone()});
    start.volatile_state = snapshot.running.clone();
    return start;
}

inline chip::Digest filled(std::uint8_t byte) {
    chip::Digest digest{};
    digest.fill(byte);
    return digest;
}

// The value of a cell, as the commit cell is extended.
inline chip::CellValue extended(const chip::CellValue& value, const chip::CellValue& digest) {
    Bytes both(value.begin(), value.end());
    both.insert(both.end(), digest.begin(), digest.end());
    chip::CellValue out{};
    ::SHA256(both.data(), both.size(), out.data());
    return out;
}

inline SecretBytes secret() {
    return SecretBytes::copy_of(as_bytes("thirty-two bytes, not so secret."));
}
inline SecretBytes auth() {
    return SecretBytes::copy_of(as_bytes("the cell's own authorization, 32"));
}

}  // namespace vtpm::fuzz
