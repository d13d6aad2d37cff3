#include "vtpm/xen/back_device.h"

#include <utility>

// What one look leads to; the first line that fits wins.
//
//   own directory gone            power_off, gone. libxl has removed the device. If the domain is
//                                 paused, or suspended, then to be destroyed: that has
//                                 going_patience, so that xl need not share the processor with an
//                                 engine's end.
//   domain ended (dead, dying,    6, power_off, gone: nobody is left to wait for, and libxl waits
//   shut down but for a suspend)  for our 6, which comes first.
//   online=0, or 5 from libxl     a live guest with the ring in use gets removal_patience to let go
//                                 and is served meanwhile (a TPM 2.0 driver says TPM2_Shutdown on
//                                 its way out and would wait minutes for the answer); then 6. At
//                                 once if the domain cannot act, or nobody is connected. A guest
//                                 at 5 is waiting for a 5 and gets the same time for its 6.
//   not announced, or refused     nothing. libxl wants to see 1 become 2 and nothing else.
//   front end directory gone      disconnect, 6.
//   front end 1                   disconnect; 2. It (re)opens the device; also after our 5 or 6.
//   front end 3 or 4              connect from any state, 4. Anew if the state was written
//                                 anew (offered_anew).
//   front end 5                   disconnect, 5. The guest waits for 5, not 6, when it shuts down.
//   front end 6                   disconnect, 6. Never 2: a kexec'd kernel and a reloaded module
//                                 look at our state, and find no TPM at 2.
//   anything else                 nothing.
//
// Hot attach. The front end of a running guest is at 3 before we have written 2, and libxl, which
// reads our state some time after it has changed, waits for exactly 2; a quick 4 would hide it and
// cost the attach its 10 s and the device. So connect() comes at once, as the guest does not wait
// for our 4 before its first command, but 4 is shown no earlier than show_init_wait after 2. When
// a domain is created it is paused until libxl has seen 2, and the delay has long passed.
//
// What a guest can cost us: looks_ and connects_ bound how often anything is done for it.

namespace vtpm::xen {

namespace {

constexpr unsigned look_burst = 64;
constexpr auto look_interval = std::chrono::milliseconds(20);
// Each connect starts a process.
constexpr unsigned connect_burst = 4;
constexpr auto connect_interval = std::chrono::seconds(1);

bool suspended(const DomainLife& life) {
    return life.state == DomainState::shutdown && life.reason == ShutdownReason::suspend;
}

}  // namespace

BackDevice::BackDevice(Store& store, Domains& domains, BackDeviceOwner& owner, DomainId domid,
                       std::uint32_t devid)
    : store_(store),
      domains_(domains),
      owner_(owner),
      domid_(domid),
      nodes_(store, domid, devid),
      looks_(look_burst, look_interval),
      connects_(connect_burst, connect_interval) {}

Result<void> BackDevice::start() {
    VTPM_CHECK(nodes_.watch());
    VTPM_TRY(uuid_, nodes_.identify());
    VTPM_TRY(const auto view, nodes_.look());
    was_connected_ = view.own == XenbusState::connected;
    was_new_ = view.own == XenbusState::initialising;
    // A 5 that libxl wrote comes with online=0; any other is a predecessor's answer to the guest.
    answered_closing_ = view.own == XenbusState::closing;
    return {};
}

Result<void> BackDevice::announce(Clock::time_point now, std::string_view tpm_version) {
    VTPM_TRY(const auto view, nodes_.look());
    if (view.present && !announced_) {
        VTPM_CHECK(nodes_.write_features(tpm_version));
        if (view.own == XenbusState::initialising) {
            VTPM_CHECK(nodes_.write_state(XenbusState::init_wait));
            show_connected_from_ = now + show_init_wait;
        }
        if (ring_)
            VTPM_CHECK(begin_counting(view));
        announced_ = true;
    }
    return update(now);
}

Result<void> BackDevice::refuse(std::string_view reason) {
    refused_ = true;
    return nodes_.report(reason);
}

Result<void> BackDevice::update(Clock::time_point now) {
    if (finished_)
        return {};
    deadline_.reset();
    auto done = look_and_act(now);
    // The events are taken, so nothing else would bring the caller back.
    if (!done)
        wake_at(now + store_retry);
    if (finished_)
        deadline_.reset();
    return done;
}

Result<bool> BackDevice::take_events() {
    bool any = false;
    for (;;) {
        VTPM_TRY(const auto event, store_.next_event());
        if (!event)
            return any;
        any = true;
        if (!DeviceNodes::concerns_frontend(*event))
            continue;
        ++frontend_writes_;
        offer_tried_ = false;
    }
}

Result<void> BackDevice::look_and_act(Moment now) {
    VTPM_CHECK(take_events());
    if (!looks_.allows(now)) {
        wake_at(looks_.allowed_from());
        return {};
    }
    looks_.take(now);
    VTPM_TRY(const auto view, settled_view(now));
    VTPM_CHECK(look_at_domain());
    // Nobody tells when it runs on.
    if (suspended(life_))
        wake_at(now + suspend_look);
    return act(view, now);
}

// A reading during which no event came, so that frontend_writes_ counts exactly the writes up to
// the state that was read. A guest that writes faster than we read gets the last reading, and no
// connection by it.
Result<DeviceView> BackDevice::settled_view(Moment now) {
    constexpr int attempts = 4;
    for (int attempt = 1;; ++attempt) {
        VTPM_TRY(auto view, nodes_.look());
        VTPM_TRY(const bool disturbed, take_events());
        if (!disturbed)
            return view;
        looks_.take(now);
        if (attempt == attempts) {
            wake_at(now);
            view.settled = false;
            return view;
        }
    }
}

Result<void> BackDevice::look_at_domain() {
    VTPM_TRY(auto life, domains_.look(domid_));
    // What it shut down for is forgotten with the domain, but not by us.
    if (life.state == DomainState::gone && !life.reason)
        life.reason = life_.reason;
    const bool goes_on = life.state == DomainState::running || life.state == DomainState::paused;
    // A domain that is being destroyed is paused as well, but stays shut down for that.
    life.ran_on = life_.ran_on || (suspended(life_) && goes_on);
    life_ = life;
    return {};
}

Result<void> BackDevice::act(const DeviceView& view, Moment now) {
    if (!view.present && is_going(now)) {
        drop_ring();
        return {};
    }
    if (!view.present || life_.ended())
        return end(view);
    const bool told_to_close = view.own == XenbusState::closing && !answered_closing_;
    if (!view.online || told_to_close)
        return see_off(view, now);
    removal_ends_.reset();
    if (!announced_ || refused_)
        return {};
    return follow_frontend(view, now);
}

bool BackDevice::is_going(Moment now) {
    if (life_.ended() || life_.can_act())
        return false;
    if (!going_ends_)
        going_ends_ = now + going_patience;
    if (now >= *going_ends_)
        return false;
    wake_at(*going_ends_);
    return true;
}

// 6 comes first: to put the engine away takes time, for which libxl need not wait. Who has the TPM
// next asks the manager, not xenstore.
Result<void> BackDevice::end(const DeviceView& view) {
    drop_ring();
    const auto told = view.present ? set_state(view, XenbusState::closed) : Result<void>();
    if (!std::exchange(powered_off_, true))
        owner_.power_off(life_);
    VTPM_CHECK(told);  // or else once more
    VTPM_CHECK(nodes_.withdraw_report());
    finished_ = true;
    owner_.gone();
    return {};
}

Result<void> BackDevice::see_off(const DeviceView& view, Moment now) {
    const bool in_use = ring_ && (view.frontend == XenbusState::initialised ||
                                  view.frontend == XenbusState::connected);
    const bool guest_holds_on = in_use || view.frontend == XenbusState::closing;
    if (view.frontend == XenbusState::closing)
        drop_ring();
    if (guest_holds_on && life_.can_act() && view.own != XenbusState::closed) {
        if (!removal_ends_)
            removal_ends_ = now + removal_patience;
        if (now < *removal_ends_) {
            wake_at(*removal_ends_);
            return set_state(view, XenbusState::closing);
        }
    }
    drop_ring();
    return set_state(view, XenbusState::closed);
}

void BackDevice::drop_ring() {
    if (!ring_)
        return;
    ring_.reset();
    owner_.disconnect();
}

Result<void> BackDevice::set_state(const DeviceView& view, XenbusState state) {
    if (view.own == state)
        return {};
    VTPM_CHECK(nodes_.write_state(state));
    answered_closing_ = state == XenbusState::closing;
    return {};
}

void BackDevice::wake_at(Moment moment) {
    if (!deadline_ || moment < *deadline_)
        deadline_ = moment;
}

}  // namespace vtpm::xen
