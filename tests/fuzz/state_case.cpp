#include "state_case.h"

#include <openssl/bn.h>
#include <openssl/rsa.h>

#include <map>

#include "input.h"
#include "vtpm/engine/libtpms_engine.h"
#include "vtpm/tpm/message.h"

namespace vtpm::fuzz {

using engine::LibtpmsEngine;
using engine::StateKind;

Bytes to_bytes(const StateCase& one) {
    ByteWriter writer;
    writer.u8(one.version == tpm::Version::v1_2 ? 1 : 2)
        .u8(one.saved ? 1 : 0)
        .u8(one.hands_over ? 1 : 0)
        .sized(one.permanent)
        .sized(one.running)
        .u8(static_cast<std::uint8_t>(one.commands.size()));
    for (const auto& command : one.commands)
        writer.u8(command.locality).sized(command.bytes);
    return writer.take();
}

StateCase from_bytes(ByteView bytes) {
    ByteReader reader(bytes);
    const auto sized = [&] {
        const auto view = reader.bytes(reader.u32().value()).value();
        return Bytes(view.begin(), view.end());
    };
    StateCase one;
    one.version = reader.u8().value() == 1 ? tpm::Version::v1_2 : tpm::Version::v2_0;
    one.saved = reader.u8().value() != 0;
    one.hands_over = reader.u8().value() != 0;
    one.permanent = sized();
    one.running = sized();
    one.commands.resize(reader.u8().value());
    for (auto& command : one.commands) {
        command.locality = reader.u8().value();
        command.bytes = sized();
    }
    return one;
}

void live(const StateCase& one) {
    engine::PowerOn start;
    start.version = one.version;
    start.blobs.push_back({StateKind::permanent, SecretBytes::copy_of(one.permanent)});
    if (one.saved)
        start.blobs.push_back({StateKind::saved, SecretBytes::copy_of(one.running)});
    start.volatile_state = SecretBytes::copy_of(one.running);

    LibtpmsEngine tpm;
    if (!tpm.power_on(std::move(start)))
        return;
    for (const auto& command : one.commands) {
        Bytes response(4096);
        const auto size = tpm.execute(command.bytes, command.locality, response);
        const auto header = tpm::parse_header(ByteView(response).first(size));
        must(header && header->size == size, "an answer of another size");
    }
    (void)tpm.take_changes();
    if (one.hands_over)
        (void)tpm.volatile_state();
    else
        tpm.power_off();
}

}  // namespace vtpm::fuzz

// In the place of OpenSSL's: a TPM 1.2 makes a key to test itself each time that it starts, which
// would be nearly all that is done here. It gets one that was made before.
extern "C" int RSA_generate_key_ex(RSA* key, int bits, BIGNUM* exponent, BN_GENCB* progress) {
    static auto& made = *new std::map<int, RSA*>;  // for as long as the process lives
    if (!made.contains(bits)) {
        RSA* const fresh = RSA_new();
        vtpm::fuzz::must(RSA_generate_multi_prime_key(fresh, bits, 2, exponent, progress) == 1,
                         "no key");
        made[bits] = fresh;
    }
    const RSA* const known = made.at(bits);
    const auto copy = [](const BIGNUM* number) { return BN_dup(number); };
    return static_cast<int>(
        RSA_set0_key(key, copy(RSA_get0_n(known)), copy(RSA_get0_e(known)),
                     copy(RSA_get0_d(known))) == 1 &&
        RSA_set0_factors(key, copy(RSA_get0_p(known)), copy(RSA_get0_q(known))) == 1);
}
