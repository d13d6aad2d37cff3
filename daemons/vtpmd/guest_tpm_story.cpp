// How a TPM got its power, and what vtpmmgrd is told of that: the story of `vtpmctl show`.
#include <ctime>

#include "guest_tpm.h"

namespace vtpm::doorman {
namespace {

std::int64_t unix_seconds() {
    return static_cast<std::int64_t>(std::time(nullptr));
}

const char* word_for(xen::Beginning beginning) {
    switch (beginning) {
        case xen::Beginning::created:
            return "created";
        case xen::Beginning::restored:
            return "restored";
        case xen::Beginning::attached:
            return "attached";
    }
    return "";
}

}  // namespace

void GuestTpm::opened(const Uuid& uuid, const OpenedInstance& instance, xen::Beginning beginning,
                      std::optional<std::uint32_t> life) {
    uuid_ = uuid;
    instance_ = instance;
    life_ = life;
    story_ = {};
    story_.set_since(unix_seconds());
    story_.set_beginning(word_for(beginning));
    story_.set_why(beginning == xen::Beginning::restored ? "the guest was restored"
                   : beginning == xen::Beginning::attached
                       ? "the TPM was attached to a running guest"
                       : "the guest was started");
    manager_.tells(story_);
    if (beginning == xen::Beginning::restored)
        resume_ = life.value_or(0) - 1;  // that of the save file
}

void GuestTpm::tell_of_restart(const std::string& why) {
    story_ = {};
    story_.set_why(why);
    story_.set_failed(power_ == Power::failed);
    manager_.tells(story_);
}

void GuestTpm::tell_of_engine() {
    story_.set_engines(story_.engines() + 1);
    story_.set_failed(power_ == Power::failed);
    tell();
}

// Once it is one: what an engine was given, it may not be able to take.
void GuestTpm::tell_of_handover() {
    story_.set_handed_over(unix_seconds());
    story_.set_handover_why(story_.why());
    tell();
}

void GuestTpm::tell_of_failure(const std::string& why) {
    story_.set_failed(true);
    story_.set_why("it could not be started: " + why);
    tell();
}

// A manager that is away hears of it when it is back.
void GuestTpm::tell() {
    if (manager_.fd() < 0)
        return manager_.tells(story_);
    if (!manager_.tell(story_))
        on_manager();
}

}  // namespace vtpm::doorman
