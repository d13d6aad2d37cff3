// SqliteVault's list of instances: create, list, find, rename, remove.
#include <algorithm>
#include <cctype>

#include "sqlite_vault_parts.h"

namespace vtpm::vault {
namespace {

constexpr std::size_t min_prefix_digits = 4;

// In lower case, or empty if it cannot be the beginning of a uuid.
std::string uuid_prefix(std::string_view selector) {
    std::string prefix;
    std::size_t digits = 0;
    for (const char c : selector) {
        const auto byte = static_cast<unsigned char>(c);
        if (std::isxdigit(byte) != 0) {
            ++digits;
        } else if (c != '-') {
            return {};
        }
        prefix.push_back(static_cast<char>(std::tolower(byte)));
    }
    return digits >= min_prefix_digits ? prefix : std::string();
}

Result<Uuid> unused_uuid(const InstanceTable& instances, const std::optional<Uuid>& wanted) {
    const Uuid uuid = wanted.value_or(Uuid::random());
    if (uuid.is_nil())
        return fail(Errc::invalid_argument, "the nil uuid names nothing");
    if (const InstanceRow* const row = instances.find(uuid); row != nullptr) {
        return fail(
            Errc::already_exists,
            "instance " + uuid.to_string() +
                (row->deleted() ? " was deleted; a uuid is not used twice" : " is there already"));
    }
    if (wanted)
        VTPM_CHECK(check_no_doubt(instances));
    return uuid;
}

}  // namespace

Result<void> check_name(const InstanceTable& instances, std::string_view name) {
    if (!valid_name(name)) {
        return fail(
            Errc::invalid_argument,
            "a name is 1 to 64 of A-Z a-z 0-9 . _ -, does not begin with - or ., and is not "
            "a uuid");
    }
    if (instances.find_name(name) != nullptr) {
        return fail(Errc::already_exists,
                    "there is an instance named " + std::string(name) + " already");
    }
    return {};
}

// Such a row may be that of any uuid: unreadable never means new.
Result<void> check_no_doubt(const InstanceTable& instances) {
    if (!instances.in_doubt())
        return {};
    return fail(Errc::corrupt,
                "rows of vault.db are damaged, so that nobody can say that this uuid is unused; "
                "delete the instances in quarantine first, or let a uuid be chosen");
}

// The row of an instance that has nothing stored yet, and its key.
Result<std::pair<InstanceRow, SecretBytes>> SqliteVault::new_row(const NewInstance& wanted) {
    VTPM_TRY(Unlocked* const open, unlocked());
    InstanceTable& instances = *open->instances;
    VTPM_CHECK(check_name(instances, wanted.name));
    if (wanted.tpm == 0)
        return fail(Errc::invalid_argument, "an instance needs a TPM version");
    if (wanted.policy.size() > max_policy_size)
        return fail(Errc::too_large, "the instance's policy names too many commands");
    if (instances.size() >= max_instances) {
        return fail(Errc::too_large, "the vault holds no more instances");
    }
    VTPM_TRY(const GroupRecord* const group,
             disk_->live_group(wanted.group.value_or(disk_->record.default_group)));
    VTPM_TRY(const SecretBytes* const group_key, open->group_key(group->id));
    InstanceRow row;
    VTPM_TRY(row.facts.uuid, unused_uuid(instances, wanted.uuid));
    row.id = instances.next_id();
    row.group_id = group->id;
    row.facts.name = wanted.name;
    row.facts.tpm = wanted.tpm;
    row.facts.sync = wanted.sync;
    row.facts.policy = wanted.policy;
    row.facts.group = group->uuid;
    row.facts.state = InstanceState::live;
    row.facts.generation = 1;
    row.facts.created = unix_seconds();
    VTPM_TRY(SecretBytes key, random_secret(key_size));
    VTPM_TRY(row.wrapped_key, wrap_key(*group_key, key));
    return std::pair(std::move(row), std::move(key));
}

Result<Instance> SqliteVault::create(const NewInstance& wanted) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(auto fresh, new_row(wanted));
    auto& [row, key] = fresh;
    RecordWriter write_state;
    if (!wanted.state.empty()) {
        VTPM_TRY(write_state, open->first_store(disk_->record.manager, key, wanted.state, row));
    }
    Instance made = row.facts;
    Change change{.action = wanted.state.empty() ? "create" : "create-with-state",
                  .subject = subject_of(made.name, made.uuid)};
    change.rows.push_back({std::move(row), write_state});
    VTPM_CHECK(make(std::move(change), true));
    return made;
}

Result<std::vector<Instance>> SqliteVault::list() {
    VTPM_TRY(Unlocked* const open, unlocked());
    std::vector<Instance> out;
    for (const InstanceRow* const row : open->instances->all())
        out.push_back(row->facts);
    std::sort(out.begin(), out.end(),
              [](const Instance& a, const Instance& b) { return a.name < b.name; });
    return out;
}

Result<Instance> SqliteVault::find(std::string_view selector) {
    VTPM_TRY(Unlocked* const open, unlocked());
    const InstanceTable& instances = *open->instances;
    if (const InstanceRow* const row = instances.find_name(selector))
        return row->facts;
    if (const auto uuid = Uuid::parse(selector))
        return get(*uuid);
    const InstanceRow* match = nullptr;
    if (const std::string prefix = uuid_prefix(selector); !prefix.empty()) {
        for (const InstanceRow* const row : instances.all()) {
            if (!row->facts.uuid.to_string().starts_with(prefix))
                continue;
            if (match != nullptr) {
                return fail(Errc::invalid_argument,
                            "several uuids begin with " + prefix + "; give more digits");
            }
            match = row;
        }
    }
    if (match == nullptr) {
        return fail(Errc::not_found, "no instance has that name, or a uuid that begins like that");
    }
    return match->facts;
}

Result<Instance> SqliteVault::get(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    const InstanceRow* const row = open->instances->find(uuid);
    if (row != nullptr && row->quarantined())
        return row->facts;
    VTPM_TRY(const InstanceRow* const usable, open->usable(uuid));
    return usable->facts;
}

Result<void> SqliteVault::check_usable(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const row, open->served(uuid));
    VTPM_CHECK(open->group_key(row->group_id));
    return {};
}

Result<Instance> SqliteVault::rename(const Uuid& uuid, std::string_view name) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const old, open->served(uuid));
    if (old->facts.name == name)
        return old->facts;
    VTPM_CHECK(check_name(*open->instances, name));
    InstanceRow row = *old;
    row.facts.name = name;
    Instance renamed = row.facts;
    Change change{.action = "rename",
                  .subject = subject_of(old->facts.name, uuid) + " to " + renamed.name};
    change.rows.push_back({std::move(row)});
    VTPM_CHECK(make(std::move(change), false));
    return renamed;
}

Result<Instance> SqliteVault::set_sync(const Uuid& uuid, bool sync) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const old, open->served(uuid));
    if (old->facts.sync == sync)
        return old->facts;
    InstanceRow row = *old;
    row.facts.sync = sync;
    Instance changed = row.facts;
    Change change{.action = "sync",
                  .subject = subject_of(changed.name, uuid) + (sync ? " on" : " off")};
    change.rows.push_back({std::move(row)});
    VTPM_CHECK(make(std::move(change), sync));
    if (sync)
        VTPM_CHECK(known_to_chip(uuid, "sync of instance " + changed.name + " is on"));
    return changed;
}

Result<Instance> SqliteVault::set_policy(const Uuid& uuid, ByteView policy) {
    VTPM_TRY(Unlocked* const open, unlocked());
    VTPM_TRY(const InstanceRow* const old, open->served(uuid));
    if (policy.size() > max_policy_size)
        return fail(Errc::too_large, "the instance's policy names too many commands");
    InstanceRow row = *old;
    row.facts.policy.assign(policy.begin(), policy.end());
    Instance changed = row.facts;
    Change change{.action = "policy", .subject = subject_of(changed.name, uuid)};
    change.rows.push_back({std::move(row)});
    VTPM_CHECK(make(std::move(change), false));
    return changed;
}

Result<void> SqliteVault::remove(const Uuid& uuid) {
    VTPM_TRY(Unlocked* const open, unlocked());
    const InstanceRow* const old = open->instances->find(uuid);
    if (old == nullptr || old->deleted()) {
        VTPM_CHECK(open->usable(uuid));
    }
    InstanceRow row = *old;
    row.move.clear();
    return erase(std::move(row), "delete", "");
}

// Whatever the row was, it is that of a deleted instance now.
Result<void> SqliteVault::erase(InstanceRow row, std::string_view action, std::string_view why) {
    row.facts.state = InstanceState::deleted;
    row.facts.bytes = 0;
    row.facts.policy.clear();
    if (disk_->find_group(row.facts.group) == nullptr || !row.sound) {
        // Of a damaged row not even this is known.
        row.facts.group = disk_->record.default_group;
    }
    row.group_id = disk_->find_group(row.facts.group)->id;
    row.wrapped_key.clear();
    row.last_store.reset();
    row.digests = {};
    row.sizes = {};
    row.facts.reverts = row.facts.clones = 0;
    row.facts.origin = {};
    keep_snapshots(row, {});
    row.sound = true;
    row.what_is_wrong.clear();
    if (!valid_name(row.facts.name))
        row.facts.name = "damaged";
    if (row.facts.tpm == 0)
        row.facts.tpm = 1;
    const std::int64_t id = row.id;
    Unlocked& open = *unlocked_;
    Change change{.action = std::string(action),
                  .subject = subject_of(row.facts.name, row.facts.uuid) + std::string(why)};
    change.rows.push_back({std::move(row), [&open, id]() -> Result<void> {
                               VTPM_CHECK(open.snapshots->erase_all(id));
                               return open.records->erase_all(id);
                           }});
    VTPM_CHECK(make(std::move(change), true));
    erase_log();
    return {};
}

}  // namespace vtpm::vault
