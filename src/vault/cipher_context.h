// CipherContext: owner of an EVP_CIPHER_CTX; OpenSSL wipes the key schedule when it is freed.
#pragma once

#include <openssl/evp.h>

#include <memory>

namespace vtpm::vault {

struct FreeCipherContext {
    void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipherContext>;

}  // namespace vtpm::vault
