#include "record_cipher.h"

#include "cipher_context.h"
#include "format.h"

namespace vtpm::vault {
namespace {

constexpr std::size_t salt_size = 32;
constexpr std::size_t commitment_size = 32;
constexpr std::size_t tag_size = 16;
constexpr std::array<std::uint8_t, 12> zero_nonce{};

Bytes associated_data(const RecordLabel& label, std::size_t size) {
    return ByteWriter()
        .bytes(as_bytes("xen-vtpm record"))
        .u32(text_version)
        .bytes(label.manager.bytes())
        .bytes(label.group.bytes())
        .bytes(label.instance.bytes())
        .u8(static_cast<std::uint8_t>(label.kind))
        .u32(label.generation)
        .u64(label.sequence)
        .bytes(label.anchor)
        .u64(size)
        .take();
}

bool start(EVP_CIPHER_CTX* context, ByteView key, ByteView associated, bool encrypt) {
    // Fetched once: EVP_aes_256_gcm() would be looked up by its name at each use.
    static const EVP_CIPHER* const algorithm = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
    int ignored = 0;
    return context != nullptr &&
           EVP_CipherInit_ex(context, algorithm, nullptr, key.data(), zero_nonce.data(),
                             encrypt ? 1 : 0) == 1 &&
           EVP_CipherUpdate(context, nullptr, &ignored, associated.data(),
                            static_cast<int>(associated.size())) == 1;
}

}  // namespace

Result<Bytes> seal_record(const SecretBytes& key, const RecordLabel& label,
                          const SecretBytes& content) {
    const Bytes associated = associated_data(label, content.size());
    VTPM_TRY(const SecretBytes salt, random_secret(salt_size));
    const SecretBytes derived =
        hkdf_sha256(key.view(), salt.view(), associated, key_size + commitment_size);
    const ByteView commitment = derived.view().subspan(key_size);

    Bytes record = ByteWriter().bytes(salt.view()).bytes(commitment).take();
    record.resize(content.size() + record_overhead);
    std::uint8_t* const body = record.data() + salt_size + commitment_size;
    int size = 0;
    int rest = 0;
    const CipherContext context(EVP_CIPHER_CTX_new());
    if (!start(context.get(), derived.view().first(key_size), associated, true) ||
        EVP_CipherUpdate(context.get(), body, &size, content.view().data(),
                         static_cast<int>(content.size())) != 1 ||
        EVP_CipherFinal_ex(context.get(), body + size, &rest) != 1 ||
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, tag_size,
                            body + content.size()) != 1) {
        return fail(Errc::unavailable, "AES-GCM failed");
    }
    return record;
}

Result<SecretBytes> open_record(const SecretBytes& key, const RecordLabel& label, ByteView record) {
    if (record.size() < record_overhead)
        return fail(Errc::corrupt, "a record is cut short");
    const std::size_t content_size = record.size() - record_overhead;
    const Bytes associated = associated_data(label, content_size);
    const SecretBytes derived =
        hkdf_sha256(key.view(), record.first(salt_size), associated, key_size + commitment_size);
    if (!equal_constant_time(derived.view().subspan(key_size),
                             record.subspan(salt_size, commitment_size))) {
        return fail(Errc::corrupt, "a record belongs to another key or place");
    }
    const ByteView body = record.subspan(salt_size + commitment_size, content_size);
    Bytes tag(record.end() - tag_size, record.end());
    SecretBytes content(content_size);
    int size = 0;
    int rest = 0;
    const CipherContext context(EVP_CIPHER_CTX_new());
    if (!start(context.get(), derived.view().first(key_size), associated, false) ||
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, tag_size, tag.data()) != 1 ||
        EVP_CipherUpdate(context.get(), content.span().data(), &size, body.data(),
                         static_cast<int>(body.size())) != 1 ||
        EVP_CipherFinal_ex(context.get(), content.span().data() + size, &rest) != 1) {
        return fail(Errc::corrupt, "a record does not verify");
    }
    return content;
}

}  // namespace vtpm::vault
