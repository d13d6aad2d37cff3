// The key of an encrypted swtpm state, described as for swtpm's own --key option; see swtpm(8).
#pragma once

#include <optional>
#include <string_view>

#include "vtpm/base/secret_bytes.h"

namespace vtpm::control {

class SwtpmKey {
  public:
    static constexpr std::size_t aes128 = 16;  // bytes
    static constexpr std::size_t aes256 = 32;

    // "FILE[,format=hex|binary][,mode=aes-cbc|aes-128-cbc|aes-256-cbc]"
    static Result<SwtpmKey> from_key_file(std::string_view option);
    // "FILE[,kdf=pbkdf2|sha512][,mode=...]". All of the file is the passphrase, a newline at its
    // end as well.
    static Result<SwtpmKey> from_passphrase_file(std::string_view option);

    // The key for a state that takes one of this many bytes, aes128 or aes256. Errc::corrupt if
    // this is not it. Lives as long as this.
    Result<ByteView> of_size(std::size_t size) const;

  private:
    SwtpmKey(SecretBytes bytes, bool any_size) : bytes_(std::move(bytes)), any_size_(any_size) {}

    SecretBytes bytes_;
    bool any_size_;  // derived: the shorter key is the beginning of the longer one
};

}  // namespace vtpm::control
