#include "tpm12_structures.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

namespace vtpm::chip::tpm12 {
namespace {

using Context = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

}  // namespace

Sha1 sha1(Views parts) {
    const Context context(::EVP_MD_CTX_new(), &::EVP_MD_CTX_free);
    Sha1 digest{};
    bool good = context && ::EVP_DigestInit_ex(context.get(), ::EVP_sha1(), nullptr) == 1;
    for (const ByteView part : parts)
        good = good && ::EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1;
    if (!good || ::EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1)
        throw std::runtime_error("OpenSSL has no SHA-1");
    return digest;
}

Sha1 hmac_sha1(ByteView key, Views parts) {
    const SecretBytes text = joined(parts);
    Sha1 mac{};
    unsigned size = 0;
    if (::HMAC(::EVP_sha1(), key.data(), static_cast<int>(key.size()), text.view().data(),
               text.size(), mac.data(), &size) == nullptr ||
        size != mac.size()) {
        throw std::runtime_error("OpenSSL has no HMAC-SHA-1");
    }
    return mac;
}

Bytes u32_bytes(std::uint32_t value) {
    return ByteWriter().u32(value).take();
}

SecretBytes joined(Views parts) {
    std::size_t size = 0;
    for (const ByteView part : parts)
        size += part.size();
    SecretBytes whole(size);
    auto at = whole.span().begin();
    for (const ByteView part : parts)
        at = std::copy(part.begin(), part.end(), at);
    return whole;
}

Bytes pcr_selection(const PcrValues& pcrs) {
    std::array<std::uint8_t, 3> map{};
    for (const auto& [number, value] : pcrs)
        map.at(number / 8) = static_cast<std::uint8_t>(map.at(number / 8) | 1U << (number % 8));
    return ByteWriter().u16(map.size()).bytes(map).take();
}

Sha1 composite_hash(const PcrValues& pcrs) {
    ByteWriter composite;
    composite.bytes(pcr_selection(pcrs));
    composite.u32(static_cast<std::uint32_t>(pcrs.size() * sha1_size));
    for (const auto& [number, value] : pcrs)
        composite.bytes(ByteView(value).first(sha1_size));
    return sha1({composite.written()});
}

Digest padded(ByteView value) {
    Digest digest{};
    std::copy_n(value.begin(), std::min(value.size(), sha1_size), digest.begin());
    return digest;
}

}  // namespace vtpm::chip::tpm12
