#include "stories.h"

#include <algorithm>
#include <ctime>

#include "vtpm/wire/failure.h"

namespace vtpm::manager {
namespace {

constexpr std::size_t max_words = 200;

std::int64_t now() {
    return static_cast<std::int64_t>(std::time(nullptr));
}

std::string words(const std::string& text) {
    return wire::printable(text.substr(0, max_words));
}

// What was known stays, unless something else is known now.
void take(const wire::proto::Power& power, std::uint64_t sequence, Story& into) {
    auto& known = into.power;
    into.speaks = true;
    if (power.since() != 0 && power.since() != known.since()) {  // another power cycle
        known.Clear();
        known.set_since(power.since());
        known.set_beginning(words(power.beginning()));
        into.first = sequence;
        into.told = 0;
    }
    // A vtpmd counts its own engines, from 0.
    const std::uint32_t before = power.engines() < into.told ? 0 : into.told;
    known.set_engines(known.engines() + power.engines() - before);
    into.told = power.engines();
    if (power.engines() > 0)
        known.set_failed(power.failed());
    if (!power.why().empty())
        known.set_why(words(power.why()));
    if (power.handed_over() != 0) {
        known.set_handed_over(power.handed_over());
        known.set_handover_why(words(power.handover_why()));
    }
}

}  // namespace

void Stories::opened(const Uuid& uuid, GuestDevice guest, std::uint64_t sequence) {
    Story& story = stories_[uuid];
    if (story.held == 0 || story.guest != guest) {
        story = Story{};
        story.guest = guest;
        story.held = now();
        story.first = sequence;
    }
    story.released = 0;
}

void Stories::told(const Uuid& uuid, std::uint64_t sequence, const wire::proto::Power& power) {
    if (const auto story = stories_.find(uuid); story != stories_.end())
        take(power, sequence, story->second);
}

void Stories::released(const Uuid& uuid, std::uint64_t sequence) {
    const auto story = stories_.find(uuid);
    if (story == stories_.end())
        return;
    story->second.released = now();
    story->second.last = sequence;
}

const Story* Stories::find(const Uuid& uuid) const {
    const auto story = stories_.find(uuid);
    return story == stories_.end() ? nullptr : &story->second;
}

void describe(const Story& story, std::uint64_t sequence, bool held, wire::proto::Story& into) {
    into.set_over(!held);
    into.set_held(story.held);
    into.set_released(held ? 0 : story.released);
    const std::uint64_t end = held || story.released == 0 ? sequence : story.last;
    into.set_writes(end - std::min(end, story.first));
    if (story.speaks)
        *into.mutable_power() = story.power;
    into.set_domain(story.guest.domain);
    into.set_device(story.guest.device);
}

}  // namespace vtpm::manager
