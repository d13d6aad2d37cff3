// FakeEventPorts: ports opened by a front end, for the back end in the same process to bind to.
// Binding again to the same port works, as after a back end's restart.
#pragma once

#include <map>
#include <mutex>

#include "fakes/xen/fake_event_channel.h"
#include "vtpm/xen/event_ports.h"

namespace vtpm::xen {

class FakeEventPorts final : public EventPorts {
  public:
    void refuse(bool refuses) { refuses_ = refuses; }

    Result<OpenPort> open(DomainId) override {
        if (refuses_)
            return fail(Errc::io, "the fake has no more ports");
        const std::lock_guard lock(mutex_);
        const Ends ends{FakeEventChannel::bell(), FakeEventChannel::bell()};
        ports_[++last_] = ends;
        return OpenPort{std::make_unique<FakeEventChannel>(ends.front, ends.back), last_};
    }

    // The back end's half: an event is pending at once.
    Result<std::unique_ptr<FakeEventChannel>> bind(std::uint32_t port) {
        const std::lock_guard lock(mutex_);
        const auto found = ports_.find(port);
        if (found == ports_.end())
            return fail(Errc::malformed, "no such port");
        ::eventfd_write(found->second.back->get(), 1);
        return std::make_unique<FakeEventChannel>(found->second.back, found->second.front);
    }

  private:
    struct Ends {
        FakeEventChannel::Bell front;
        FakeEventChannel::Bell back;
    };

    std::mutex mutex_;
    std::map<std::uint32_t, Ends> ports_;
    std::uint32_t last_ = 0;
    bool refuses_ = false;
};

}  // namespace vtpm::xen
