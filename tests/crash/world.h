// World: a host with a vault, a chip, a disk that loses power, and somebody who keeps old disks.
//
// The model of reference/sealing.md 2.4 around the real SqliteVault. It knows what the vault has
// promised: `current` is the last state that was acknowledged, `candidates` are those that a mere
// power cut may leave (with a write in flight: one more), `window` those since the chip's cell was
// last extended, which nobody can tell from each other (2.6). What the vault makes of an image of
// the disk is tried on copies of the image and the chip, so that one image costs one boot and
// changes nothing.
#pragma once

#include <array>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "cell_chip.h"
#include "disk.h"
#include "fakes/chip/swtpm.h"
#include "vtpm/vault/sqlite_vault.h"

namespace vtpm::crash {

struct Guest {
    std::string name;
    std::uint64_t sequence = 0;
    std::uint64_t content = 0;  // its number; 0: never stored
    bool deleted = false;
    std::uint8_t tpm = 2;
    std::uint64_t reverts = 0;
    std::uint64_t clones = 0;
    Uuid origin = {};
    std::map<std::string, std::uint64_t> snapshots = {};  // the number of what is in each
    bool operator==(const Guest&) const = default;
};

// What a vault says about itself.
struct State {
    bool set_up = false;
    std::map<Uuid, Guest> guests;
    bool operator==(const State&) const = default;
};
std::string describe(const State& state);

// Counts, as in the table of 2.4. All but the first four have to be zero.
struct Figures {
    std::uint64_t boots = 0;
    std::uint64_t refused = 0;    // older images
    std::uint64_t in_window = 0;  // older images that were accepted, as has been decided
    std::size_t worst_window = 0;
    std::uint64_t false_alarms = 0;  // after a power cut and nothing else
    std::uint64_t lost = 0;          // acknowledged, and not there
    std::uint64_t rollbacks = 0;     // older than the last commit, and served
    std::uint64_t made_new = 0;      // a vault or a guest that was there, taken for new
    std::uint64_t other = 0;
    std::string first;  // what the first of these was

    bool sound() const { return false_alarms + lost + rollbacks + made_new + other == 0; }
    std::string table() const;
};

class World {
  public:
    enum class Trouble { none, chip, chip_and_disk };

    World(const std::filesystem::path& directory, Random& random, Figures& figures);
    ~World();

    // The host is switched on; its power fails before the nth operation from now, if ever.
    void power_on(std::size_t crash_at = SIZE_MAX, Trouble trouble = Trouble::none);
    // What makes a host break its promises; whoever judges it has to notice.
    enum class Fault {
        none,
        no_sync,            // the disk says that it has synced, and has not
        no_directory_sync,  // the same, of directories alone
        no_anchor_sync,     // the same, of the anchor that the chip's cell is extended by
        early_acknowledge,  // a guest has its answer before its write is durable
        chip_goes_back,     // to what it said when the image that is put back was kept
    };
    // From now on, until it is switched on again.
    void suffer(Fault fault);
    // The vault opens; it is set up, should that not have happened. False: the power is gone.
    bool boot();
    // By any end; what it leaves is chosen at random and judged.
    void power_off();
    // The same, for one of the ways in which the disk can lose what it had not synced.
    void power_off(const Image& left);

    void create();
    void store();
    void rename();
    void remove();
    void take_snapshot();
    void remove_snapshot();
    void revert();
    void clone();
    void idle();
    void commit();  // an hour goes by
    void orderly_end();
    void anything();  // of the above, and whatever a manager does

    // Keeps images of the disk from now on, each `every` operations on average.
    void keep_images(std::size_t every) { keep_every_ = every; }
    // Puts at most `count` of them back while the host is off; it goes on with the right one, or
    // with one that was accepted if `fall` says so.
    void put_back_images(std::size_t count, bool fall);

    // While the host is off, in order: the database becomes one of format 5, if it is none.
    // Nothing in it may have a past.
    void make_it_format_5();

    // While the host is on or off.
    void judge_power_cut(const Image& left);
    // Of an image that somebody has damaged: whatever is served is right, or of the open epoch.
    enum class Damage { refused, one_guest, several, older, harmless };
    Damage judge_damaged(const Image& image);
    Disk& disk() { return *disk_; }
    bool alive() const { return disk_ && !disk_->crashed(); }

  private:
    using Outcome = std::variant<State, Error>;
    using ChipMemory = fakes::FakeChip::Memory;
    struct Kept {
        Image image;
        ChipMemory chip;
    };

    Outcome try_out(const Image& image, const ChipMemory& memory, bool damaged = false);
    State read(vault::SqliteVault& vault, bool damaged) const;
    void judge_older(const Image& image, const ChipMemory& memory, bool whole, bool* accepted);
    void take_over(const Image& image);
    void check_cache();
    void check_window();
    void begin(State next) { urgent_ = std::move(next); }
    void end(bool done, const State& next);
    void extended();
    void remember(std::vector<State>& states, const State& state) const;
    void wrong(std::uint64_t& count, const std::string& what);
    std::optional<Uuid> some_guest();
    Uuid new_uuid();
    std::optional<Uuid> some_guest_with_snapshot();
    bool shows(const State& next, const Uuid& uuid);

    std::filesystem::path directory_;
    Random& random_;
    Figures& figures_;
    CellChip chip_;
    std::optional<Disk> disk_;
    std::optional<vault::SqliteVault> vault_;
    Image image_;  // while the host is off
    std::vector<Kept> kept_;
    std::size_t keep_every_ = 0;
    Fault fault_ = Fault::none;

    std::vector<Uuid> known_;                     // whatever was to be created
    std::map<std::string, std::uint64_t> taken_;  // what is in each snapshot; no name comes again
    State current_;
    std::vector<State> candidates_{State()};
    std::vector<State> window_{State()};
    std::optional<State> urgent_;  // what the vault is about to write and commit at once
    bool acknowledged_set_up_ = false;
    std::uint64_t numbers_ = 0;
    std::size_t writes_ = 0;  // acknowledged since the last extend
    std::time_t first_write_ = 0;
};

}  // namespace vtpm::crash
