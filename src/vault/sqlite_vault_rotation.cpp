#include "sqlite_vault_parts.h"
namespace vtpm::vault {
Result<Instance> SqliteVault::rotate_instance(const Uuid&) {
    return fail(Errc::unsupported, "");
}
Result<Group> SqliteVault::rotate_group(const Uuid&) {
    return fail(Errc::unsupported, "");
}
Result<void> SqliteVault::rotate_root() {
    return fail(Errc::unsupported, "");
}
}  // namespace vtpm::vault
