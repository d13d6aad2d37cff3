#include "swtpm_key.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <string>

#include "files.h"

namespace vtpm::control {
namespace {

constexpr std::size_t max_hex_file = 256;
constexpr std::size_t max_passphrase = 64UL * 1024;
constexpr int pbkdf2_rounds = 1000;
constexpr std::string_view pbkdf2_salt = "swtpm";

using Words = std::map<std::string_view, std::string_view>;

// The parts of "FILE,word=value,...". Words that are not among `known` are refused.
Result<std::string> take_apart(std::string_view option, Words& known) {
    const std::string file(option.substr(0, option.find(',')));
    if (file.empty())
        return fail(Errc::invalid_argument, "the name of a file belongs before the first comma");
    for (auto rest = option.substr(file.size()); !rest.empty();) {
        rest.remove_prefix(1);
        const auto part = rest.substr(0, rest.find(','));
        rest.remove_prefix(part.size());
        const auto equals = part.find('=');
        const auto word = known.find(part.substr(0, equals));
        if (word == known.end() || equals == std::string_view::npos) {
            return fail(Errc::invalid_argument,
                        "\"" + std::string(part) + "\" says nothing about a key");
        }
        word->second = part.substr(equals + 1);
    }
    return file;
}

Result<std::size_t> size_of_mode(std::string_view mode) {
    if (mode == "aes-cbc" || mode == "aes-128-cbc")
        return SwtpmKey::aes128;
    if (mode == "aes-256-cbc")
        return SwtpmKey::aes256;
    return fail(Errc::invalid_argument, "mode is aes-cbc (128 bits) or aes-256-cbc");
}

// Whitespace may follow the digits, nothing else.
Result<SecretBytes> from_hex_text(std::string_view text) {
    if (text.starts_with("0x"))
        text.remove_prefix(2);
    text = text.substr(0, text.find_last_not_of(" \t\r\n") + 1);
    SecretBytes key(text.size() / 2);
    for (std::size_t i = 0; i < key.size(); ++i) {
        const char* const at = text.data() + 2 * i;
        const auto [end, error] = std::from_chars(at, at + 2, key.span()[i], 16);
        if (error != std::errc() || end != at + 2)
            return fail(Errc::invalid_argument, "a character that is no hex digit");
    }
    if (text.size() % 2 != 0)
        return fail(Errc::invalid_argument, "an odd number of hex digits");
    return key;
}

Result<SecretBytes> derive(const SecretBytes& passphrase, std::string_view kdf) {
    SecretBytes key(SHA512_DIGEST_LENGTH);
    if (kdf == "sha512") {
        if (EVP_Digest(passphrase.view().data(), passphrase.size(), key.span().data(), nullptr,
                       EVP_sha512(), nullptr) != 1) {
            return fail(Errc::io, "OpenSSL has no SHA-512");
        }
    } else if (kdf == "pbkdf2") {
        const ByteView salt = as_bytes(pbkdf2_salt);
        if (PKCS5_PBKDF2_HMAC(reinterpret_cast<const char*>(passphrase.view().data()),
                              static_cast<int>(passphrase.size()), salt.data(),
                              static_cast<int>(salt.size()), pbkdf2_rounds, EVP_sha512(),
                              static_cast<int>(key.size()), key.span().data()) != 1) {
            return fail(Errc::io, "OpenSSL has no PBKDF2");
        }
    } else {
        return fail(Errc::invalid_argument, "kdf is pbkdf2 or sha512");
    }
    return key;
}

}  // namespace

Result<SwtpmKey> SwtpmKey::from_key_file(std::string_view option) {
    Words words = {{"format", "hex"}, {"mode", ""}};
    VTPM_TRY(const std::string file, take_apart(option, words));
    VTPM_TRY(SecretBytes key, read_secret(file, max_hex_file));
    if (words["format"] == "hex") {
        auto binary = from_hex_text({reinterpret_cast<const char*>(key.view().data()), key.size()});
        if (!binary)
            return tl::make_unexpected(std::move(binary).error().within(file));
        key = std::move(*binary);
    } else if (words["format"] != "binary") {
        return fail(Errc::invalid_argument, "format is hex or binary");
    }
    if (key.size() != aes128 && key.size() != aes256) {
        return fail(Errc::invalid_argument,
                    file + " holds " + std::to_string(key.size()) +
                        " bytes of key; AES takes 16 or 32. Is it format=binary?");
    }
    if (!words["mode"].empty()) {
        VTPM_TRY(const std::size_t size, size_of_mode(words["mode"]));
        if (key.size() != size)
            return fail(Errc::invalid_argument, file + " holds no key of that mode's size");
    }
    return SwtpmKey(std::move(key), false);
}

Result<SwtpmKey> SwtpmKey::from_passphrase_file(std::string_view option) {
    Words words = {{"kdf", "pbkdf2"}, {"mode", ""}};
    VTPM_TRY(const std::string file, take_apart(option, words));
    VTPM_TRY(const SecretBytes passphrase, read_secret(file, max_passphrase));
    VTPM_TRY(SecretBytes key, derive(passphrase, words["kdf"]));
    if (words["mode"].empty())
        return SwtpmKey(std::move(key), true);
    VTPM_TRY(const std::size_t size, size_of_mode(words["mode"]));
    key.shrink(size);
    return SwtpmKey(std::move(key), false);
}

Result<ByteView> SwtpmKey::of_size(std::size_t size) const {
    if (!any_size_ && bytes_.size() != size) {
        return fail(Errc::corrupt, "it is encrypted with a key of " + std::to_string(size * 8) +
                                       " bits, and this one has " +
                                       std::to_string(bytes_.size() * 8));
    }
    return bytes_.view().first(std::min(size, bytes_.size()));
}

}  // namespace vtpm::control
