// What a guest's nth store brings, and which one it was that is read.
#pragma once

#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "vtpm/vault/vault.h"

namespace vtpm::crash {

constexpr std::uint64_t unreadable = UINT64_MAX;

// Long enough for some pages, now and then.
inline std::string content(std::uint64_t number) {
    std::string text = std::to_string(number) + " ";
    text.resize(text.size() + 80 + number * 7919 % (number % 9 == 0 ? 14'000 : 900), 'x');
    return text;
}

inline std::map<vault::BlobKind, std::string> blobs(std::uint64_t number) {
    std::map<vault::BlobKind, std::string> out{{vault::BlobKind::permanent, content(number)}};
    if (number % 3 == 0)
        out[vault::BlobKind::saved] = "saved " + content(number);
    return out;
}

inline std::vector<vault::BlobChange> changes(std::uint64_t number) {
    std::vector<vault::BlobChange> out;
    for (const auto& [kind, text] : blobs(number))
        out.push_back({kind, SecretBytes::copy_of(as_bytes(text))});
    if (out.size() == 1)
        out.push_back({vault::BlobKind::saved, std::nullopt});
    return out;
}

// What a snapshot has of it: the permanent state alone.
constexpr std::uint64_t bare = std::uint64_t{1} << 62U;
inline std::uint64_t in_snapshot(std::uint64_t number) {
    return blobs(number & ~bare).size() == 1 ? number : number | bare;
}

// The number of the store that this is all of, and nothing but, or in_snapshot() of it; 0: of none.
inline std::uint64_t number_of(const vault::LoadedState& state) {
    std::map<vault::BlobKind, std::string> found;
    for (const auto& [kind, blob] : state.blobs)
        found[kind].assign(blob.view().begin(), blob.view().end());
    if (found.empty())
        return 0;
    std::uint64_t number = 0;
    std::istringstream(found[vault::BlobKind::permanent]) >> number;
    if (found == blobs(number))
        return number;
    auto alone = blobs(number);
    alone.erase(vault::BlobKind::saved);
    return found == alone ? number | bare : unreadable;
}

}  // namespace vtpm::crash
