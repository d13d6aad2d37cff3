#include "swtpm_blob.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <array>
#include <memory>
#include <string>

namespace vtpm::control {
namespace {

constexpr std::uint8_t format = 2;
constexpr std::uint16_t header_size = 10;
constexpr std::size_t aes_block = 16;

enum Flag : std::uint16_t {
    encrypted = 0x01,
    migration_encrypted = 0x02,
    migration_data = 0x04,
    key_of_256_bits = 0x08,
    migration_key_of_256_bits = 0x10,
};
constexpr std::uint16_t of_migration =
    migration_encrypted | migration_data | migration_key_of_256_bits;

struct Parts {
    bool encrypted = false;
    std::size_t key_size = 0;
    std::optional<ByteView> plain;
    std::optional<ByteView> cipher;
    std::optional<ByteView> hmac;
    std::optional<ByteView> iv;
};

tl::unexpected<Error> cut_or_altered(const std::string& what) {
    return fail(Errc::corrupt, "it is cut or altered: " + what);
}

Result<void> read_header(ByteReader& reader, std::size_t all, Parts& parts) {
    const auto version = reader.u8();
    const auto least = reader.u8();
    const auto size = reader.u16();
    const auto flags = reader.u16();
    const auto total = reader.u32();
    if (!total)
        return cut_or_altered("there are not even the 10 bytes of a header");
    if (*least > format)
        return fail(Errc::unsupported, "it is in the format of a newer swtpm");
    if (*version != format || *least == 0 || *size != header_size) {
        return fail(Errc::unsupported,
                    "it has no header that swtpm writes since version 0.1. If it is older, let a "
                    "new swtpm run with it once, and the guest use its TPM");
    }
    if (*total != all) {
        return cut_or_altered("its header speaks of " + std::to_string(*total) +
                              " bytes, and there are " + std::to_string(all));
    }
    if ((*flags & of_migration) != 0) {
        return fail(Errc::unsupported,
                    "it was taken out of a running swtpm for a migration; stop that one and name "
                    "its state directory");
    }
    if ((*flags & ~(encrypted | key_of_256_bits)) != 0)
        return fail(Errc::unsupported, "its header has flags of a newer swtpm");
    parts.encrypted = (*flags & encrypted) != 0;
    const bool long_key = (*flags & key_of_256_bits) != 0;
    if (long_key && !parts.encrypted)
        return cut_or_altered("its header contradicts itself");
    parts.key_size = long_key ? SwtpmKey::aes256 : SwtpmKey::aes128;
    return {};
}

Result<Parts> take_apart(ByteView blob) {
    Parts parts;
    ByteReader reader(blob);
    VTPM_CHECK(read_header(reader, blob.size(), parts));
    const std::array<std::optional<ByteView>*, 7> place = {
        nullptr, &parts.plain, &parts.cipher, &parts.hmac, nullptr, nullptr, &parts.iv};
    while (reader.left() > 0) {
        const auto tag = reader.u16();
        const auto length = reader.u32();
        const auto content = length ? reader.bytes(*length) : fail(Errc::malformed, "");
        if (!content)
            return cut_or_altered("a part of it ends too early");
        auto* const slot = *tag < place.size() ? place[*tag] : nullptr;
        if (slot == nullptr || slot->has_value())
            return cut_or_altered("a part of it is unknown, or there twice");
        *slot = *content;
    }
    const bool sealed = parts.cipher && parts.hmac && parts.iv && !parts.plain;
    const bool bare = parts.plain && !parts.cipher && !parts.hmac && !parts.iv;
    if (parts.encrypted ? !sealed : !bare)
        return cut_or_altered("it has not the parts that its header speaks of");
    return parts;
}

// Over what is encrypted and the whole IV, with the same key.
bool authentic(const Parts& parts, ByteView key) {
    Bytes covered(parts.cipher->begin(), parts.cipher->end());
    covered.insert(covered.end(), parts.iv->begin(), parts.iv->end());
    std::array<std::uint8_t, SHA256_DIGEST_LENGTH> hmac{};
    return HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), covered.data(),
                covered.size(), hmac.data(), nullptr) != nullptr &&
           equal_constant_time(hmac, *parts.hmac);
}

// The bytes of padding at the end, whose number is in each of them; 0 if they are wrong. swtpm pads
// to a multiple of the key's size, not of AES's block.
std::size_t padding_of(ByteView padded, std::size_t key_size) {
    const std::size_t size = padded.empty() ? 0 : padded.back();
    if (size == 0 || size > key_size || size > padded.size())
        return 0;
    for (const std::uint8_t byte : padded.last(size)) {
        if (byte != size)
            return 0;
    }
    return size;
}

Result<SecretBytes> decrypt(const Parts& parts, ByteView key) {
    struct Free {
        void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
    };
    const std::unique_ptr<EVP_CIPHER_CTX, Free> context(EVP_CIPHER_CTX_new());
    const auto* const cipher =
        key.size() == SwtpmKey::aes256 ? EVP_aes_256_cbc() : EVP_aes_128_cbc();
    SecretBytes state(parts.cipher->size() + aes_block);
    int size = 0;
    int rest = 0;
    // Of an IV as long as an AES-256 key, AES takes the first 16 bytes.
    if (context == nullptr || parts.iv->size() != key.size() ||
        EVP_DecryptInit_ex(context.get(), cipher, nullptr, key.data(), parts.iv->data()) != 1 ||
        EVP_CIPHER_CTX_set_padding(context.get(), 0) != 1 ||
        EVP_DecryptUpdate(context.get(), state.span().data(), &size, parts.cipher->data(),
                          static_cast<int>(parts.cipher->size())) != 1 ||
        EVP_DecryptFinal_ex(context.get(), state.span().data() + size, &rest) != 1) {
        return cut_or_altered("it does not decrypt");
    }
    state.shrink(static_cast<std::size_t>(size + rest));
    const std::size_t padding = padding_of(state.view(), key.size());
    if (padding == 0)
        return cut_or_altered("it does not decrypt");
    state.shrink(state.size() - padding);
    return state;
}

Result<SecretBytes> open_encrypted(const Parts& parts, const SwtpmKey* key) {
    if (key == nullptr) {
        return fail(Errc::invalid_argument,
                    "it is encrypted: give --key or --pwdfile as swtpm was given them");
    }
    VTPM_TRY(const ByteView fitting, key->of_size(parts.key_size));
    if (!authentic(parts, fitting))
        return fail(Errc::corrupt, "the key is not the one it is encrypted with, or it is altered");
    return decrypt(parts, fitting);
}

}  // namespace

Result<SecretBytes> open_swtpm_blob(ByteView blob, const SwtpmKey* key) {
    if (blob.size() > max_swtpm_blob)
        return fail(Errc::too_large, "no TPM has a state of that size");
    VTPM_TRY(const Parts parts, take_apart(blob));
    if (!parts.encrypted && key != nullptr) {
        return fail(Errc::invalid_argument,
                    "it is not encrypted, although there is a key: if that is right, leave the key "
                    "out");
    }
    VTPM_TRY(SecretBytes state, parts.encrypted
                                    ? open_encrypted(parts, key)
                                    : Result<SecretBytes>(SecretBytes::copy_of(*parts.plain)));
    if (state.size() > max_swtpm_state)
        return fail(Errc::too_large, "no TPM has a state of that size");
    return state;
}

std::optional<tpm::Version> version_of_permanent(ByteView state) {
    ByteReader reader(state);
    const auto first = reader.u16();
    const auto second = reader.u32();
    if (!second)
        return std::nullopt;
    if (*second == 0xAB364723)  // PERSISTENT_ALL_MAGIC, after the version of its format
        return tpm::Version::v2_0;
    // TPM_TAG_NVSTATE_V1, then TPM_PERMANENT_DATA's tag
    if (*first == 0x0001 && *second >> 16U == 0x0022)
        return tpm::Version::v1_2;
    return std::nullopt;
}

}  // namespace vtpm::control
