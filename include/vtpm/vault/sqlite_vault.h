// SqliteVault: a Vault in one SQLite database (WAL, synchronous=FULL) in a directory of its own.
//
// The directory holds vault.db, its write-ahead log, and the file `set-up`, which says that there
// was a vault here should the database be lost. All belong to the effective user and to nobody else
// (0700, 0600, no symlinks), else they are refused. The chip is lent and must outlive the vault.
// One thread at a time.
#pragma once

#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "vtpm/chip/chip.h"
#include "vtpm/vault/vault.h"

namespace vtpm::vault {

struct Anchor;
class InstanceTable;
class P256Key;
struct InstanceRow;
struct KeptSnapshot;
struct PackageHeader;
struct Ticket;
using Hash = std::array<std::uint8_t, 32>;
struct GroupRecord;
struct KeyBundle;
struct VaultRecord;

class SqliteVault : public Vault {
  public:
    // Opens the database if there is one and takes its lock; does not talk to the chip. What went
    // wrong is in status(): Errc::in_use (another process has it), corrupt, unsupported,
    // permission.
    SqliteVault(std::filesystem::path directory, chip::Chip& chip);
    ~SqliteVault() override;

    // Who keeps keys for this process's successor is given those that are about to be the vault's,
    // together with those that are: in case nobody can be given the new ones any more. What it is
    // given is for unlock_with_keys(), and to be forgotten after the next keys_at_hand().
    void keep_for_successor(std::function<void(const SecretBytes& keys)> keep) {
        successor_ = std::move(keep);
    }

    // Called between two commands of the chip while keys are renewed, which may take minutes: what
    // cannot wait may be done then, by load(), get(), store_all(), commit_due() and idle(). Whoever
    // answers false wants to end: the keys stay as they were.
    void let_in_meanwhile(std::function<bool()> others) { meanwhile_ = std::move(others); }

    Status status() override;
    void act_for(std::string_view who) override { actor_ = who; }
    Result<Uuid> setup(const SetupWishes& wishes) override;
    Result<Uuid> replace_recovery_key(std::string_view recovery_public) override;
    Result<void> check_recovery_key(const SecretBytes& recovery_key) override;
    Result<void> recover(const SecretBytes& recovery_key) override;
    Result<void> unlock() override;
    Result<void> unlock_with_keys(const SecretBytes& keys) override;
    Result<void> unlock_with_recovery_key(const SecretBytes& recovery_key) override;
    Result<SecretBytes> keys_at_hand() override;
    Result<void> close_latch() override;

    Result<BootStatement> statement(const Uuid& group, const chip::PcrValues& others,
                                    bool outlives_revocation) override;
    Result<void> approve(const Uuid& group, const chip::Approval& approval) override;
    Result<void> approve_unsigned(const Uuid& group, const chip::PcrValues& others) override;
    Result<std::vector<StoredApproval>> approvals() override;
    Result<void> revoke(bool forced) override;

    Result<std::vector<Group>> groups() override;
    Result<Group> find_group(std::string_view selector) override;
    Result<Group> create_group(std::string_view name, const ApproverWish& approver) override;
    Result<Group> open_group(const Uuid& group) override;
    Result<Group> close_group(const Uuid& group) override;
    Result<void> remove_group(const Uuid& group) override;
    Result<Group> set_approver(const Uuid& group, const ApproverWish& approver) override;

    Result<Instance> rotate_instance(const Uuid& uuid) override;
    Result<Group> rotate_group(const Uuid& group) override;
    Result<void> rotate_root() override;

    Result<MadeTicket> make_ticket(const Uuid& group) override;
    Result<Exported> export_instance(const Uuid& uuid, ByteView ticket,
                                     bool leave_snapshots) override;
    Result<Instance> confirm_export(const Uuid& uuid, ByteView receipt) override;
    Result<Instance> abort_export(const Uuid& uuid) override;
    Result<Imported> import_package(ByteView package, std::string_view name,
                                    ByteView policy) override;
    Result<Imported> receipt_again(ByteView package) override;
    Result<Fd> backup() override;

    Result<std::vector<Event>> journal(std::uint64_t after, std::size_t limit) override;
    Result<void> note(std::string_view action, const Uuid& instance) override;

    Result<Instance> create(const NewInstance& wanted) override;
    Result<std::vector<Instance>> list() override;
    Result<Instance> find(std::string_view selector) override;
    Result<Instance> get(const Uuid& uuid) override;
    Result<void> check_usable(const Uuid& uuid) override;
    Result<Instance> rename(const Uuid& uuid, std::string_view name) override;
    Result<Instance> set_sync(const Uuid& uuid, bool sync) override;
    Result<Instance> set_policy(const Uuid& uuid, ByteView policy) override;
    Result<void> remove(const Uuid& uuid) override;
    Result<Instance> take_snapshot(const Uuid& uuid, std::string_view name) override;
    Result<std::vector<Snapshot>> snapshots(const Uuid& uuid) override;
    Result<Instance> remove_snapshot(const Uuid& uuid, std::string_view name) override;
    Result<Instance> revert(const Uuid& uuid, std::string_view snapshot) override;
    Result<Instance> clone(const Uuid& uuid, const CloneWish& wish) override;
    Result<LoadedState> load(const Uuid& uuid) override;
    std::vector<Result<std::uint64_t>> store_all(std::span<const StoreRequest> requests) override;
    Result<void> commit_due() override;
    Result<void> idle() override;
    Result<void> close() override;

  private:
    struct Disk;       // the database, while its lock is ours
    struct Unlocked;   // what there is only with the keys
    struct KeySource;  // where they come from
    struct Change;     // of what an operator may change
    struct Recovery;   // what is found and made anew when a vault is recovered
    struct Renewal;    // what an open vault makes anew
    struct Fresh;      // keys and a latch on their way into the vault
    struct Batch;      // what a store_all() is about to write

    Result<void> open_disk();
    Result<void> open_with(const KeySource& keys);
    Result<void> try_open(const KeySource& keys);
    Result<void> look_at_latch();
    Result<void> open_groups(Unlocked& into, const KeySource& keys) const;
    Result<SecretBytes> checked_group_key(const GroupRecord& group, const KeySource& keys,
                                          const SecretBytes& root) const;
    KeySource keys_from_chip();
    Result<KeySource> keys_from_escrow(const SecretBytes& recovery_key);
    Result<void> lay_down(const SetupWishes& wishes, KeyBundle& keys);
    Result<Unlocked*> unlocked();
    Result<Disk*> disk();
    Result<void> make(Change change, bool urgent);
    Result<void> tell_approvals();
    Result<void> escrow_to(const Bytes& recovery_point);
    Result<void> renew(const Renewal& wish);
    Result<void> try_renew(const Renewal& wish);
    Result<void> let_others_in() const;
    Result<Fresh> make_fresh(const Renewal& wish, VaultRecord& record);
    Result<std::vector<GroupRecord>> renewed_groups(const Renewal& wish, const VaultRecord& record,
                                                    const Fresh& fresh) const;
    Result<void> renew_record(const Renewal& wish, const Fresh& fresh,
                              const std::vector<GroupRecord>& groups, VaultRecord& record) const;
    Result<void> renew_rows(const Fresh& fresh, Change& change) const;
    void hand_over(const std::map<Uuid, SecretBytes>& fresh) const;
    Result<void> put_in_force(Change change, Fresh fresh);
    Result<void> clear_chip();
    Result<void> remove_what_is_not_in_force();
    Result<void> clear_chip_of_setups(const VaultRecord& ours);
    Result<void> check_no_other_vault();
    Error no_vault() const;  // as it was found last
    Result<Recovery> find_keys(const SecretBytes& recovery_key);
    Result<void> seal_again(Recovery& found);
    Result<void> seal_again_on_tpm12(Recovery& found);
    Result<Anchor> write_recovered(Recovery& found, InstanceTable& instances,
                                   const chip::CellValue& cell);
    Result<void> fold();
    Result<void> commit_epoch();
    void wrote(bool urgent);
    void erase_log();
    Result<void> fence();
    Result<void> part_with(const InstanceRow& old, const Ticket& ticket, const Hash& ticket_hash);
    Result<Exported> package_for(const Uuid& uuid, const Ticket& ticket);
    Result<P256Key> key_for(const PackageHeader& header);
    Result<LoadedState> read_state(const Uuid& uuid);
    Result<SecretBytes> read_snapshot(const InstanceRow& row, const KeptSnapshot& snapshot);
    Result<std::function<Result<void>()>> rotate_snapshots(const InstanceRow& old,
                                                           const SecretBytes& key,
                                                           InstanceRow& row);
    Result<std::pair<InstanceRow, SecretBytes>> new_row(const NewInstance& wanted);
    Result<void> erase(InstanceRow row, std::string_view action, std::string_view why);
    Group describe(const GroupRecord& record) const;
    std::string binding_text() const;
    bool on_tpm12() const;
    Result<void> check_no_boot_lost() const;
    Result<void> keep_this_boot(bool forced);
    Result<void> seal_all_for_this_boot(Change& change);
    Result<void> prove(const Uuid& uuid);
    Result<void> known_to_chip(const Uuid& uuid, std::string_view what);

    std::filesystem::path directory_;
    chip::Chip& chip_;
    bool set_up_ = false;  // as far as the directory shows
    std::optional<Error> reason_;
    std::optional<Error> late_commit_;  // why the chip has not taken the last one
    bool erasing_ = false;              // a removed key may still lie in the write-ahead log
    bool log_is_ours_ = false;          // no process before us left a removed key in it
    bool latch_closed_ = false;         // in this boot, as far as we know
    std::optional<Error> latch_lost_;   // it was removed or replaced: no sealed key opens any more
    std::optional<Error> leftovers_;    // why an index too many may be in the chip
    std::chrono::seconds leftovers_pause_{0};  // before it is tried once more; longer each time
    std::chrono::steady_clock::time_point leftovers_tried_;
    std::string actor_;
    std::function<void(const SecretBytes&)> successor_;
    std::function<bool()> meanwhile_;
    bool renewing_ = false;
    std::unique_ptr<Disk> disk_;
    std::unique_ptr<Unlocked> unlocked_;  // after disk_: its statements go first
};

}  // namespace vtpm::vault
