// SqliteVault::backup(): the whole vault as it is now, for another place.
#include "sqlite_vault_parts.h"

namespace vtpm::vault {

Result<Fd> SqliteVault::backup() {
    VTPM_CHECK(unlocked());
    VTPM_CHECK(make({.action = "backup", .subject = "a copy of the vault was asked for"}, false));
    return disk_->database->copy();
}

}  // namespace vtpm::vault
