// A recovery key as vtpmctl makes it, for tests and fuzzers.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "vtpm/vault/sqlite_vault.h"

namespace vtpm::vault {

struct RecoveryPair {
    SecretBytes private_pem;
    std::string public_pem;
};

inline RecoveryPair recovery_pair() {
    const auto text = [](const auto& write) {
        const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_secmem()), &BIO_free);
        if (write(bio.get()) != 1)
            throw std::runtime_error("no recovery key was made");
        char* bytes = nullptr;
        const auto size = BIO_get_mem_data(bio.get(), &bytes);
        return SecretBytes::copy_of(
            as_bytes(std::string_view(bytes, static_cast<std::size_t>(size))));
    };
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                  &EVP_PKEY_free);
    const SecretBytes open = text([&](BIO* bio) { return PEM_write_bio_PUBKEY(bio, key.get()); });
    return {text([&](BIO* bio) {
                return PEM_write_bio_PKCS8PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr,
                                                     nullptr);
            }),
            std::string(open.view().begin(), open.view().end())};
}

// What a set-up or a replacement came to, and the key that is the vault's from then on.
struct WithRecoveryKey {
    Uuid manager;
    SecretBytes recovery_key_pem;
};

inline Result<WithRecoveryKey> set_up_with_key(SqliteVault& vault, SetupWishes wishes = {}) {
    RecoveryPair pair = recovery_pair();
    wishes.recovery_public = pair.public_pem;
    VTPM_TRY(const Uuid manager, vault.setup(wishes));
    return WithRecoveryKey{manager, std::move(pair.private_pem)};
}

inline Result<WithRecoveryKey> replace_key(SqliteVault& vault) {
    RecoveryPair pair = recovery_pair();
    VTPM_TRY(const Uuid manager, vault.replace_recovery_key(pair.public_pem));
    return WithRecoveryKey{manager, std::move(pair.private_pem)};
}

}  // namespace vtpm::vault
