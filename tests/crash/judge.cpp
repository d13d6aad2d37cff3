// World's verdicts: what the vault makes of an image of the disk, and whether it may.
#include <sqlite3.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "content.h"
#include "world.h"

namespace vtpm::crash {
namespace {

namespace fs = std::filesystem;

// The damage is in its snapshots, which are refused one by one.
bool has_lost_snapshots(Guest found, const Guest& wanted) {
    for (auto& [name, number] : found.snapshots) {
        const auto there = wanted.snapshots.find(name);
        if (number == unreadable && there != wanted.snapshots.end())
            number = there->second;
    }
    return found == wanted;
}

// Each guest that is served, and each that is not there, is so in some state of the window.
bool made_of(const State& state, const std::vector<State>& window) {
    const auto fits = [&](const Uuid& uuid) {
        const auto found = state.guests.find(uuid);
        return std::any_of(window.begin(), window.end(), [&](const State& possible) {
            const auto at = possible.guests.find(uuid);
            if (found == state.guests.end() || at == possible.guests.end())
                return found == state.guests.end() && at == possible.guests.end();
            return found->second.content == unreadable || found->second == at->second ||
                   has_lost_snapshots(found->second, at->second);
        });
    };
    for (const auto& [uuid, guest] : state.guests) {
        if (!fits(uuid))
            return false;
    }
    return std::all_of(window.back().guests.begin(), window.back().guests.end(),
                       [&](const auto& entry) { return fits(entry.first); });
}

// What is in them shows in clones, which are taken away again.
void read_snapshots(vault::SqliteVault& vault, const Uuid& uuid, Guest& guest) {
    const auto kept = vault.snapshots(uuid);
    if (!kept)
        return;
    for (const auto& snapshot : *kept) {
        std::uint64_t& number = guest.snapshots[snapshot.name] = unreadable;
        const auto clone = vault.clone(uuid, {"look", {}, snapshot.name});
        if (!clone)
            continue;
        if (const auto loaded = vault.load(clone->uuid))
            number = number_of(*loaded);
        (void)vault.remove(clone->uuid);
    }
}

}  // namespace

State World::read(vault::SqliteVault& vault, bool damaged) const {
    State state;
    state.set_up = true;
    for (const auto& uuid : known_) {
        const auto found = vault.get(uuid);
        if (!found) {
            if (found.error().context.find("was deleted") != std::string::npos)
                state.guests[uuid] = {{}, 0, 0, true};
            else if (damaged && !vault.create({"again", 2, uuid}))
                state.guests[uuid].content = unreadable;  // lost, and nobody makes it anew
            continue;
        }
        Guest& guest = state.guests[uuid];
        guest.name = found->name;
        guest.tpm = found->tpm;
        guest.sequence = found->sequence;
        const auto loaded = vault.load(uuid);
        const bool sound = loaded && loaded->sequence == found->sequence &&
                           (loaded->sequence == 0) == loaded->blobs.empty();
        guest.content = sound ? number_of(*loaded) : unreadable;
        guest.reverts = found->reverts;
        guest.clones = found->clones;
        guest.origin = found->origin;
        if (found->snapshots == 0)
            continue;
        // Each takes some commits: a sample of the boots looks into them, the others at their
        // names.
        if (damaged || one_in(random_, 16)) {
            read_snapshots(vault, uuid, guest);
        } else if (const auto kept = vault.snapshots(uuid)) {
            for (const auto& snapshot : *kept)
                guest.snapshots[snapshot.name] = taken_.at(snapshot.name);
        }
    }
    return state;
}

World::Outcome World::try_out(const Image& image, const ChipMemory& memory, bool damaged) {
    ++figures_.boots;
    lay_down(image, directory_ / "copy" / "vault");
    fakes::FakeChip chip;
    chip.memory() = memory;
    vault::SqliteVault vault(directory_ / "copy" / "vault", chip);
    if (vault.status().phase == vault::Phase::not_set_up)
        return State();
    const auto opened = vault.unlock();
    if (opened)
        return read(vault, damaged);
    const auto extends = [](const ChipMemory& of) {
        std::uint64_t sum = 0;
        for (const auto& cell : of)
            sum += cell.extends;
        return sum;
    };
    if (extends(chip.memory()) != extends(memory))
        wrong(figures_.other, "a refusal has changed the chip");
    if (damaged && (vault.setup({}) || !vault.status().reason))
        wrong(figures_.made_new, "a damaged vault is set up, or says no reason");
    return opened.error();
}

void World::judge_power_cut(const Image& left) {
    const Outcome outcome = try_out(left, chip_.memory());
    if (const auto* const error = std::get_if<Error>(&outcome))
        return wrong(figures_.false_alarms, "after a power cut: " + error->context);
    const State& found = std::get<State>(outcome);
    if (!found.set_up) {
        if (acknowledged_set_up_)
            wrong(figures_.made_new, "after a power cut there is no vault");
        return;
    }
    for (const auto& [uuid, guest] : found.guests) {
        const auto had = current_.guests.find(uuid);
        if (had != current_.guests.end() && had->second.sequence > 0 && guest.sequence == 0 &&
            !guest.deleted)
            wrong(figures_.made_new, "a guest that had a state has none");
    }
    if (std::find(candidates_.begin(), candidates_.end(), found) == candidates_.end())
        wrong(figures_.lost, "after a power cut: " + describe(found));
}

void World::judge_older(const Image& image, const ChipMemory& memory, bool whole, bool* accepted) {
    const Outcome outcome = try_out(image, memory);
    if (const auto* const error = std::get_if<Error>(&outcome)) {
        ++figures_.refused;
        if (whole && error->code != Errc::rolled_back && error->code != Errc::wrong_cell)
            wrong(figures_.other,
                  "an older image is refused for another reason: " + error->context);
        return;
    }
    const State& found = std::get<State>(outcome);
    if (!found.set_up) {
        if (image && image->contains("vault.db"))
            wrong(figures_.made_new, "a database is taken for none");
        return;
    }
    const auto place = std::find(window_.begin(), window_.end(), found);
    if (place == window_.end() && (whole || !made_of(found, window_)))
        return wrong(figures_.rollbacks, "served: " + describe(found));
    ++figures_.in_window;
    if (place == window_.end())
        return;
    const auto back = static_cast<std::size_t>(window_.end() - place) - 1;
    figures_.worst_window = std::max(figures_.worst_window, back);
    if (accepted != nullptr)
        *accepted = true;
}

World::Damage World::judge_damaged(const Image& image) {
    const Outcome outcome = try_out(image, chip_.memory(), true);
    if (!std::holds_alternative<State>(outcome))
        return Damage::refused;
    const State& found = std::get<State>(outcome);
    if (!found.set_up || !made_of(found, window_)) {
        wrong(found.set_up ? figures_.rollbacks : figures_.made_new, "served: " + describe(found));
        return Damage::refused;
    }
    if (found == current_)
        return Damage::harmless;
    const auto hurt = std::count_if(found.guests.begin(), found.guests.end(), [](const auto& one) {
        const Guest& guest = one.second;
        return guest.content == unreadable ||
               std::any_of(guest.snapshots.begin(), guest.snapshots.end(),
                           [](const auto& snapshot) { return snapshot.second == unreadable; });
    });
    return hurt == 0 ? Damage::older : hurt == 1 ? Damage::one_guest : Damage::several;
}

void World::put_back_images(std::size_t count, bool fall) {
    if (!current_.set_up || kept_.empty())
        return;
    for (std::size_t n = 0; n < std::min(count, kept_.size()); ++n) {
        const Kept& kept = count >= kept_.size() ? kept_[n] : kept_[below(random_, kept_.size())];
        const Image& image = kept.image;
        const ChipMemory& memory = fault_ == Fault::chip_goes_back ? kept.chip : chip_.memory();
        bool accepted = false;
        judge_older(image, memory, true, &accepted);
        // The files of two images, or of one and the right one.
        const Image& other =
            one_in(random_, 2) ? image_ : kept_[below(random_, kept_.size())].image;
        if (image && other) {
            Image mixed = image;
            mixed->erase("vault.db-wal");
            if (const auto log = other->find("vault.db-wal"); log != other->end())
                mixed->insert(*log);
            judge_older(mixed, memory, false, nullptr);
        }
        if (accepted && fall) {
            take_over(Image(image));
            return;
        }
    }
}

void World::make_it_format_5() {
    const fs::path place = directory_ / "copy" / "vault";
    lay_down(image_, place);
    sqlite3* database = nullptr;
    const bool done =
        sqlite3_open((place / "vault.db").c_str(), &database) == SQLITE_OK &&
        (sqlite3_exec(database, "SELECT past FROM instances", nullptr, nullptr, nullptr) !=
             SQLITE_OK ||
         sqlite3_exec(database,
                      "BEGIN; ALTER TABLE instances DROP COLUMN past; DROP TABLE snapshots;"
                      "ALTER TABLE approvals DROP COLUMN actor;"
                      "ALTER TABLE journal DROP COLUMN kin; ALTER TABLE journal DROP COLUMN other;"
                      "PRAGMA user_version = 5; COMMIT",
                      nullptr, nullptr, nullptr) == SQLITE_OK);
    sqlite3_close(database);
    if (!done)
        wrong(figures_.other, "the database does not become one of format 5");
    Files files;
    for (const auto& entry : fs::directory_iterator(place)) {
        std::ifstream in(entry.path(), std::ios::binary);
        const Bytes found{std::istreambuf_iterator<char>(in), {}};
        files[entry.path().filename()] = Contents(found);
    }
    image_ = std::move(files);
}

// The host goes on with it, whatever was promised of another one.
void World::take_over(const Image& image) {
    image_ = image;
    const Outcome outcome = try_out(image_, chip_.memory());
    if (const auto* const found = std::get_if<State>(&outcome))
        current_ = *found;
    candidates_ = {current_};
    writes_ = 0;
}

}  // namespace vtpm::crash
