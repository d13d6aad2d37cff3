#include "world.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "clock.h"
#include "content.h"

namespace vtpm::crash {
namespace {

namespace fs = std::filesystem;
using vault::Phase;

constexpr std::size_t most_kept = 60;

}  // namespace

std::string describe(const State& state) {
    if (!state.set_up)
        return "no vault";
    std::ostringstream out;
    for (const auto& [uuid, guest] : state.guests) {
        out << guest.name << '(' << guest.sequence << ':';
        if (guest.content == unreadable)
            out << "unreadable";
        else
            out << guest.content;
        for (const auto& [name, number] : guest.snapshots)
            out << ' ' << name << '=' << number;
        if (guest.reverts + guest.clones > 0)
            out << ' ' << guest.reverts << " reverts " << guest.clones << " clones";
        out << (guest.deleted ? " deleted) " : ") ");
    }
    return out.str();
}

std::string Figures::table() const {
    std::ostringstream out;
    out << boots << " boots: " << refused << " older images refused, " << in_window
        << " of the open epoch accepted (at worst " << worst_window
        << " writes back); false alarms " << false_alarms << ", lost acknowledged writes " << lost
        << ", undetected rollbacks " << rollbacks << ", taken for new " << made_new << ", other "
        << other;
    if (!first.empty())
        out << "\nthe first: " << first;
    return out.str();
}

World::World(const fs::path& directory, Random& random, Figures& figures)
    : directory_(directory), random_(random), figures_(figures), chip_(random) {
    fs::create_directories(directory_ / "host");
    fs::create_directories(directory_ / "copy");
    chip_.on_extend = [this] { extended(); };
}

World::~World() {
    vault_.reset();
}

void World::wrong(std::uint64_t& count, const std::string& what) {
    ++count;
    if (figures_.first.empty())
        figures_.first = what + "; acknowledged: " + describe(current_);
}

void World::remember(std::vector<State>& states, const State& state) const {
    if (std::find(states.begin(), states.end(), state) == states.end())
        states.push_back(state);
}

// The chip has it: nothing older is good any more.
void World::extended() {
    const State committed = urgent_.value_or(current_);
    candidates_ = {committed};
    window_ = {committed};
    writes_ = 0;
}

void World::end(bool done, const State& next) {
    urgent_.reset();
    if (done && alive()) {
        current_ = next;
        candidates_ = {next};
        if (window_.back() != next && ++writes_ == 1)
            first_write_ = Clock::now();
    } else {
        // In flight, or failed in a way that a power cut may turn into a success.
        remember(candidates_, next);
    }
    remember(window_, next);
}

void World::power_on(std::size_t crash_at, Trouble trouble) {
    disk_.emplace(directory_ / "host", image_);
    suffer(Fault::none);
    if (crash_at != SIZE_MAX)
        disk_->crash_at(crash_at);
    chip_.troublesome = trouble != Trouble::none;
    if (trouble == Trouble::chip_and_disk)
        disk_->fail_sync(1 + below(random_, 30));
    disk_->on_step([this] {
        if (keep_every_ == 0 || !one_in(random_, keep_every_))
            return;
        Kept kept{one_in(random_, 2) ? disk_->cache() : disk_->after_power_cut(random_),
                  chip_.memory()};
        if (kept_.size() < most_kept)
            kept_.push_back(std::move(kept));
        else
            kept_[below(random_, most_kept)] = std::move(kept);
    });
}

void World::suffer(Fault fault) {
    fault_ = fault;
    disk_->lie(fault == Fault::no_sync             ? Disk::Lie::always
               : fault == Fault::no_directory_sync ? Disk::Lie::of_directories
                                                   : Disk::Lie::none);
    chip_.anchor_not_synced = fault == Fault::no_anchor_sync;
}

bool World::boot() {
    vault_.emplace(directory_ / "host" / "vault", chip_);
    if (vault_->status().phase == Phase::not_set_up) {
        State made;
        made.set_up = true;
        begin(made);
        const bool done = vault_->setup({}).has_value();
        end(done, made);
        acknowledged_set_up_ = acknowledged_set_up_ || (done && alive());
        if (!done && alive()) {
            disk_->crash_at(1);  // what was made half is for another start to clear away
            return false;
        }
    }
    Result<void> opened = vault_->unlock();
    for (int again = 0; !opened && alive() && again < 8; ++again)
        opened = vault_->unlock();
    if (!opened && alive()) {
        wrong(figures_.false_alarms, "it does not open: " + opened.error().context);
        disk_->crash_at(1);
    }
    return alive();
}

std::optional<Uuid> World::some_guest() {
    std::vector<Uuid> found;
    for (const auto& [uuid, guest] : current_.guests) {
        if (!guest.deleted)
            found.push_back(uuid);
    }
    if (found.empty())
        return std::nullopt;
    return found[below(random_, found.size())];
}

Uuid World::new_uuid() {
    std::array<std::uint8_t, 16> bytes{};
    std::generate(bytes.begin(), bytes.end(),
                  [&] { return static_cast<std::uint8_t>(below(random_, 256)); });
    known_.push_back(*Uuid::from_bytes(bytes));
    return known_.back();
}

void World::create() {
    const Uuid uuid = new_uuid();
    State next = current_;
    const std::string name = "g" + std::to_string(++numbers_);
    next.guests[uuid] = {name, 0, 0, false};
    begin(next);
    end(vault_->create({name, 2, std::optional(uuid)}).has_value(), next);
}

void World::store() {
    const auto uuid = some_guest();
    if (!uuid)
        return create();
    State next = current_;
    Guest& guest = next.guests[*uuid];
    guest.content = ++numbers_;
    const std::uint64_t before = guest.sequence++;
    if (fault_ == Fault::early_acknowledge)
        end(true, next);
    const auto sequence = vault_->store(*uuid, before, changes(guest.content));
    if (!sequence && alive() && sequence.error().code != Errc::io)
        wrong(figures_.other, "a store is refused: " + sequence.error().context);
    end(sequence.has_value(), next);
    // As the manager does, once the answer is on its way.
    if (alive() && vault_->commit_due())
        check_window();
}

void World::rename() {
    const auto uuid = some_guest();
    if (!uuid)
        return;
    State next = current_;
    next.guests[*uuid].name = "r" + std::to_string(++numbers_);
    end(vault_->rename(*uuid, next.guests[*uuid].name).has_value(), next);
}

void World::remove() {
    const auto uuid = some_guest();
    if (!uuid)
        return;
    State next = current_;
    next.guests[*uuid] = {{}, 0, 0, true};
    begin(next);
    end(vault_->remove(*uuid).has_value(), next);
}

void World::take_snapshot() {
    const auto uuid = some_guest();
    if (!uuid || current_.guests[*uuid].content == 0)
        return store();
    State next = current_;
    Guest& guest = next.guests[*uuid];
    const std::string name = "s" + std::to_string(++numbers_);
    guest.snapshots[name] = taken_[name] = in_snapshot(guest.content);
    end(vault_->take_snapshot(*uuid, name).has_value(), next);
}

// A snapshot's end, a revert and a clone are refused, and done all the same, when the chip does not
// take them at once. What the vault says that it has is as good as acknowledged.
bool World::shows(const State& next, const Uuid& uuid) {
    if (!alive())
        return false;
    const auto found = vault_->get(uuid);
    const Guest& wanted = next.guests.at(uuid);
    return found && found->sequence == wanted.sequence && found->reverts == wanted.reverts &&
           found->snapshots == wanted.snapshots.size() && found->origin == wanted.origin;
}

std::optional<Uuid> World::some_guest_with_snapshot() {
    for (const auto& [uuid, guest] : current_.guests) {
        if (!guest.snapshots.empty())
            return uuid;
    }
    return std::nullopt;
}

void World::remove_snapshot() {
    const auto uuid = some_guest_with_snapshot();
    if (!uuid)
        return take_snapshot();
    State next = current_;
    auto& snapshots = next.guests[*uuid].snapshots;
    const std::string name = snapshots.begin()->first;
    snapshots.erase(name);
    begin(next);
    end(vault_->remove_snapshot(*uuid, name).has_value() || shows(next, *uuid), next);
}

void World::revert() {
    const auto uuid = some_guest_with_snapshot();
    if (!uuid)
        return take_snapshot();
    State next = current_;
    Guest& guest = next.guests[*uuid];
    const auto& [name, number] = *guest.snapshots.begin();
    guest.content = number;
    ++guest.sequence;
    ++guest.reverts;
    begin(next);
    end(vault_->revert(*uuid, name).has_value() || shows(next, *uuid), next);
}

void World::clone() {
    const auto uuid = some_guest();
    if (!uuid || current_.guests[*uuid].content == 0)
        return store();
    State next = current_;
    Guest& source = next.guests[*uuid];
    const bool of_snapshot = !source.snapshots.empty() && one_in(random_, 2);
    const std::string snapshot = of_snapshot ? source.snapshots.begin()->first : "";
    const std::string name = "c" + std::to_string(++numbers_);
    ++source.clones;
    Guest made{name, 1,
               of_snapshot ? source.snapshots.begin()->second : in_snapshot(source.content)};
    made.origin = *uuid;
    const Uuid clone = new_uuid();
    next.guests[clone] = made;
    begin(next);
    end(vault_->clone(*uuid, {name, clone, snapshot}).has_value() || shows(next, clone), next);
}

void World::idle() {
    if (vault_->idle())
        check_window();
}

void World::commit() {
    Clock::pass(3600);
    idle();
}

void World::orderly_end() {
    const bool wrote = writes_ > 0;
    const bool closed = vault_->close().has_value();
    if (wrote && closed && alive() && window_ != std::vector<State>{current_})
        wrong(figures_.other, "closed, and the chip does not know the last state");
    vault_.reset();
}

void World::anything() {
    switch (below(random_, 20)) {
        case 0:
            return create();
        case 1:
            return one_in(random_, 2) ? remove() : rename();
        case 2:
            return idle();
        case 3:
            return Clock::pass(static_cast<std::time_t>(below(random_, 40)));
        case 4:
            if (one_in(random_, 6)) {
                for (int n = 0; n < 70 && alive(); ++n)
                    store();
            }
            return;
        case 5:
            return one_in(random_, 2) ? take_snapshot() : remove_snapshot();
        case 6:
            return revert();
        case 7:
            return one_in(random_, 3) ? clone() : take_snapshot();
        default:
            return store();
    }
}

// The bounds of epochs.h, or a word on why they are not kept.
void World::check_window() {
    if (!alive() || writes_ == 0)
        return;
    const auto status = vault_->status();
    if (!status.freshness || status.freshness->tokens == 0 || status.reason)
        return;
    if (writes_ >= 64 || Clock::now() - first_write_ >= 30) {
        wrong(figures_.other, "the epoch is open for " + std::to_string(writes_) + " writes and " +
                                  std::to_string(Clock::now() - first_write_) + " s");
    }
    if (status.freshness->writes < writes_)
        wrong(figures_.other, "status shows a window that is smaller than it is");
}

// That the disk has heard of every change that was made.
void World::check_cache() {
    const auto wanted = disk_->cache();
    const fs::path place = directory_ / "host" / "vault";
    std::size_t files = 0;
    if (fs::exists(place)) {
        for (const auto& entry : fs::directory_iterator(place)) {
            Bytes found(entry.file_size());
            std::ifstream in(entry.path(), std::ios::binary);
            in.read(reinterpret_cast<char*>(found.data()),
                    static_cast<std::streamsize>(found.size()));
            const std::string name = entry.path().filename();
            ++files;
            if (!wanted || !wanted->contains(name) || wanted->at(name) != Contents(found))
                wrong(figures_.other, "the model of the disk has lost track of " + name);
        }
    }
    if (files != wanted.value_or(Files()).size())
        wrong(figures_.other, "the model of the disk has other files than the disk");
}

void World::power_off() {
    if (alive())
        disk_->crash_at(1);
    power_off(disk_->after_power_cut(random_));
}

void World::power_off(const Image& left) {
    if (alive())
        disk_->crash_at(1);
    (void)disk_->step();
    vault_.reset();
    check_cache();
    disk_.reset();
    judge_power_cut(left);
    take_over(left);
    if (!current_.set_up) {
        chip_.memory() = {};
        kept_.clear();
        window_ = {current_};
    }
}

}  // namespace vtpm::crash
