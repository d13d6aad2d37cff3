// RecordTable: the encrypted blobs, by instance row and kind. Says nothing about whether they are
// the right ones: that is for the digests in the instance's row. Private to the vault room; one
// thread.
#pragma once

#include <cstdint>
#include <optional>

#include "database.h"
#include "hash.h"
#include "vtpm/vault/vault.h"

namespace vtpm::vault {

struct StoredRecord {
    std::uint32_t generation = 0;
    std::uint64_t sequence = 0;
    Hash anchor{};
    Bytes content;  // see record_cipher.h
};

Hash digest_of(BlobKind kind, const StoredRecord& record);

class RecordTable {
  public:
    static Result<RecordTable> open(Database& database);

    Result<std::optional<StoredRecord>> get(std::int64_t instance_id, BlobKind kind);
    Result<void> put(std::int64_t instance_id, BlobKind kind, const StoredRecord& record);
    Result<void> erase(std::int64_t instance_id, BlobKind kind);
    Result<void> erase_all(std::int64_t instance_id);

  private:
    RecordTable(Statement get, Statement put, Statement erase)
        : get_(std::move(get)), put_(std::move(put)), erase_(std::move(erase)) {}

    Statement get_;
    Statement put_;
    Statement erase_;
};

}  // namespace vtpm::vault
