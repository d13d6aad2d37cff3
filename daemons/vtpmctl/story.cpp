#include "story.h"

#include "presentation.h"

namespace vtpm::control {
namespace {

nlohmann::json time_or_null(std::int64_t seconds) {
    return seconds == 0 ? nlohmann::json(nullptr) : nlohmann::json(time_text(seconds));
}

std::string beginning_of(const wire::proto::Power& power) {
    if (power.since() == 0)
        return "not known: its vtpmd has been restarted since";
    const std::string when = time_text(power.since());
    if (power.beginning() == "attached")
        return when + ", when it was attached to a guest that ran: no record of this boot";
    if (power.beginning() == "restored")
        return when + ", when its guest was restored";
    return when;
}

}  // namespace

nlohmann::json to_json(const wire::proto::Story& story) {
    const auto& power = story.power();
    return {
        {"over", story.over()},
        {"domain", story.domain()},
        {"device", story.device()},
        {"held_since", time_or_null(story.held())},
        {"released", time_or_null(story.released())},
        {"powered_since", time_or_null(power.since())},
        {"beginning",
         power.beginning().empty() ? nlohmann::json(nullptr) : nlohmann::json(power.beginning())},
        {"no_record_of_this_boot", power.beginning() == "attached"},
        {"engines", story.has_power() ? nlohmann::json(power.engines()) : nlohmann::json(nullptr)},
        {"engine_because", power.why()},
        {"last_handover", time_or_null(power.handed_over())},
        {"last_handover_because", power.handover_why()},
        {"failed", power.failed()},
        {"writes", story.writes()},
    };
}

std::string story_of(const wire::proto::Story& story) {
    const auto& power = story.power();
    std::string text =
        line(story.over() ? "last held by" : "story",
             "domain " + std::to_string(story.domain()) + ", device " +
                 std::to_string(story.device()) + ", since " + time_text(story.held()) +
                 (story.released() == 0 ? "" : " until " + time_text(story.released())));
    if (!story.has_power())
        return text +
               line("engines", "not known: its vtpmd is of an older version, and does not say");
    if (power.engines() == 0)
        return text + line("engines", "none yet: its guest has not connected");
    text += line("powered since", beginning_of(power));
    if (power.failed())
        text += line("TPM", "in failure mode until its guest is shut down and started");
    text += line("engines", std::to_string(power.engines()) +
                                " in this power cycle; the last one: " + printable(power.why()));
    text += line("handover", power.handed_over() == 0 ? "none in this power cycle"
                                                      : time_text(power.handed_over()) + ": " +
                                                            printable(power.handover_why()));
    return text + line("writes", std::to_string(story.writes()) + " in this power cycle");
}

}  // namespace vtpm::control
