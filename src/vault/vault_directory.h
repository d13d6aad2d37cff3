// VaultDirectory: the files of a vault, and whether they can be trusted to be ours.
//
//   vault.db        the database; vault.db-wal beside it while it is in use
//   vault.db.new    a set-up that has not finished; never read
//   set-up          there was a vault here (the manager's uuid, for people)
//   setting-up      while a set-up makes NV indices: the uuid whose they are
//
// Order of a set-up: `setting-up`, vault.db.new, fsync, rename to vault.db, fsync of the directory,
// `set-up`; then `setting-up` goes.
// A crash before the rename leaves no vault; one after it leaves a whole one. Private to the vault
// room; one thread.
#pragma once

#include <filesystem>
#include <optional>

#include "vtpm/base/result.h"
#include "vtpm/base/uuid.h"

namespace vtpm::vault {

class VaultDirectory {
  public:
    explicit VaultDirectory(std::filesystem::path path) : path_(std::move(path)) {}

    // True: there is a vault; false: there never was one. Errc::permission if the directory or the
    // database is a symlink, belongs to somebody else, or others may touch it; Errc::corrupt if
    // there was a vault and its database is gone.
    Result<bool> holds_vault() const;

    // Makes the directory if need be, and an empty private vault.db.new in it.
    Result<void> prepare() const;

    // Whose NV indices a set-up makes from now on; durable.
    Result<void> begin(const Uuid& manager) const;
    // That of a set-up that did not come to its end; none if there is no such.
    Result<std::optional<Uuid>> begun() const;
    Result<void> end() const;  // durable, too

    // vault.db.new becomes vault.db, durably.
    Result<void> publish(const Uuid& manager) const;

    // The marker, if a crash came between the rename and it.
    Result<void> mark(const Uuid& manager) const;

    // The names of the files in it are on the disk.
    Result<void> sync() const;

    std::filesystem::path database() const { return path_ / "vault.db"; }
    std::filesystem::path new_database() const { return path_ / "vault.db.new"; }

  private:
    std::filesystem::path marker() const { return path_ / "set-up"; }
    std::filesystem::path beginning() const { return path_ / "setting-up"; }
    std::filesystem::path path_;
};

}  // namespace vtpm::vault
