// RecordTable: encrypted blobs, by instance row and place in it. Says nothing about whether they
// are the right ones: that is for the digests in the instance's row. Private to the vault room; one
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

inline std::uint8_t place_of(BlobKind kind) {
    return static_cast<std::uint8_t>(kind);
}

class RecordTable {
  public:
    static Result<RecordTable> records(Database& database);    // of the state: place_of(kind)
    static Result<RecordTable> snapshots(Database& database);  // 0 to Vault::max_snapshots - 1

    Result<std::optional<StoredRecord>> get(std::int64_t instance_id, std::uint8_t place);
    Result<void> put(std::int64_t instance_id, std::uint8_t place, const StoredRecord& record);
    Result<void> erase(std::int64_t instance_id, std::uint8_t place);
    Result<void> erase_all(std::int64_t instance_id);

  private:
    RecordTable(std::uint8_t places, Statement get, Statement put, Statement erase,
                Statement erase_all)
        : places_(places),
          get_(std::move(get)),
          put_(std::move(put)),
          erase_(std::move(erase)),
          erase_all_(std::move(erase_all)) {}

    static Result<RecordTable> open(Database& database, const std::string& table,
                                    std::uint8_t places);
    std::int64_t key_of(std::int64_t instance_id, std::uint8_t place) const;

    std::uint8_t places_;  // of an instance; what a row's id is made with
    Statement get_;
    Statement put_;
    Statement erase_;
    Statement erase_all_;
};

}  // namespace vtpm::vault
