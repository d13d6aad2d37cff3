// SqliteVault: a Vault in one SQLite database (WAL, synchronous=FULL) in a directory of its own.
//
// The directory holds vault.db, its write-ahead log, and the file `set-up`, which says that there
// was a vault here should the database be lost. All belong to the effective user and to nobody else
// (0700, 0600, no symlinks), else they are refused. The chip is lent and must outlive the vault.
// One thread at a time.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "vtpm/chip/chip.h"
#include "vtpm/vault/vault.h"

namespace vtpm::vault {

class SqliteVault : public Vault {
  public:
    // Opens the database if there is one and takes its lock; does not talk to the chip. What went
    // wrong is in status(): Errc::in_use (another process has it), corrupt, unsupported,
    // permission.
    SqliteVault(std::filesystem::path directory, chip::Chip& chip);
    ~SqliteVault() override;

    Status status() override;
    Result<SetupOutcome> setup(bool make_recovery_key) override;
    Result<SetupOutcome> replace_recovery_key() override;
    Result<void> recover(const SecretBytes& recovery_key) override;
    Result<void> unlock() override;
    Result<Instance> create(const NewInstance& wanted) override;
    Result<std::vector<Instance>> list() override;
    Result<Instance> find(std::string_view selector) override;
    Result<Instance> get(const Uuid& uuid) override;
    Result<Instance> rename(const Uuid& uuid, std::string_view name) override;
    Result<void> remove(const Uuid& uuid) override;
    Result<LoadedState> load(const Uuid& uuid) override;
    std::vector<Result<std::uint64_t>> store_all(std::span<const StoreRequest> requests) override;
    Result<void> commit_due() override;
    Result<void> idle() override;
    Result<void> close() override;

  private:
    struct Disk;      // the database, while its lock is ours
    struct Unlocked;  // what there is only with the keys
    struct Found;     // the keys, while an operator recovers a vault
    struct Batch;     // what a store_all() is about to write

    Result<void> open_disk();
    Result<void> try_unlock();
    Result<void> lay_down(bool make_recovery_key, SetupOutcome& outcome);
    Result<Unlocked*> unlocked();
    Result<Found> find_keys(const SecretBytes& recovery_key);
    Result<void> fold();
    Result<void> commit_epoch();
    void wrote(bool urgent);
    Result<void> prove(const Uuid& uuid);

    std::filesystem::path directory_;
    chip::Chip& chip_;
    bool set_up_ = false;  // as far as the directory shows
    std::optional<Error> reason_;
    std::optional<Error> late_commit_;  // why the chip has not taken the last one
    bool erasing_ = false;              // a removed key may still lie in the write-ahead log
    std::unique_ptr<Disk> disk_;
    std::unique_ptr<Unlocked> unlocked_;  // after disk_: its statements go first
};

}  // namespace vtpm::vault
