// One blob of a TPM as it lies on the disk: AES-256-GCM under a key that is used once.
//
//   record = salt (32) | commitment (32) | ciphertext (as long as the plaintext) | tag (16)
//   one-time key (32) | commitment (32) = HKDF-SHA256(K_inst, salt, info = label)
//   label is the associated data too. The nonce is zero: the key is new with each record.
//
// Not the sequence number as a nonce: after a rollback that nobody noticed the same number would be
// written again with other content (reference/sealing.md 1.3). The commitment makes a record open
// under one key only, which GCM by itself does not promise. Private to the vault room.
#pragma once

#include "hash.h"
#include "vtpm/base/uuid.h"
#include "vtpm/vault/vault.h"

namespace vtpm::vault {

// All that a record belongs to; nothing of it can be changed without the record failing to open.
struct RecordLabel {
    Uuid manager;
    Uuid group;
    Uuid instance;
    BlobKind kind = BlobKind::permanent;
    std::uint32_t generation = 0;
    std::uint64_t sequence = 0;
    Hash anchor{};  // the name of the one it was written after
};

inline constexpr std::size_t record_overhead = 32 + 32 + 16;

Result<Bytes> seal_record(const SecretBytes& key, const RecordLabel& label,
                          const SecretBytes& content);

// Errc::corrupt unless it is the very record that was sealed with this key and label.
Result<SecretBytes> open_record(const SecretBytes& key, const RecordLabel& label, ByteView record);

}  // namespace vtpm::vault
