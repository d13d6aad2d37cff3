// BackDevice: the back end's half of the xenbus handshake of one vtpm device, as a state machine.
//
// Level-triggered: every update() reads all inputs anew (own state and online, the front end's
// state, the domain's life) and does what the table in back_device.cpp says for them; events say
// only "look", and doubled ones are harmless. Writes happen only when a value changes. The front
// end's directory belongs to the guest: whatever it writes, in whatever order and however often,
// must cost only itself.
//
// Lifecycle, for vtpmd:
//   start()                reads who and what; from now on poll store.fd() and next_deadline()
//   announce() or refuse() once the instance was opened, or could not be
//   update()               whenever the descriptor or the deadline says so, until finished()
// Stopping the daemon is just stopping: nothing is written, and the next start() finds the device
// in state 4 (was_connected()) and goes on without the guest noticing: with a connect() anew or, if
// the owner still serves the ring, with go_on().
//
// Takes every event of its Store, so it needs one to itself. No threads and no timers of its own.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "vtpm/base/rate_bound.h"
#include "vtpm/base/result.h"
#include "vtpm/base/uuid.h"
#include "vtpm/xen/back_device_owner.h"
#include "vtpm/xen/device_nodes.h"
#include "vtpm/xen/domains.h"
#include "vtpm/xen/store.h"
#include "vtpm/xen/xenbus_state.h"

namespace vtpm::xen {

class BackDevice {
  public:
    using Clock = std::chrono::steady_clock;

    // All must outlive the device.
    BackDevice(Store& store, Domains& domains, BackDeviceOwner& owner, DomainId domid,
               std::uint32_t devid);

    // Sets the watches and reads the identity from backend/vtpm/<domid>/<devid>, never from the
    // guest's directory. Errc::not_found: no such device. Errc::malformed: libxl's entries are not
    // what they should be; refuse() and update() can still be used to see the device off.
    Result<void> start();

    const Uuid& uuid() const { return uuid_; }  // of the instance, as libxl wrote it
    // At start() the device was in state 4: a vtpmd before us served it, and its TPM's memory is
    // still somewhere. connect() comes all the same, after announce().
    bool was_connected() const { return was_connected_; }
    // At start() nobody had done anything for the device.
    bool was_new() const { return was_new_; }

    // Before announce(): the owner serves this ring since before start(). What has become of it is
    // seen as if it had just been connected.
    void go_on(const RingAddress& ring) { ring_ = ring; }

    // The instance is there: feature-protocol-v2 and tpm-version ("1.2", "2.0": so that a front end
    // knows what it has before its first command), then state 2 (unless already past it). libxl
    // gives us 10 s for this from the node's creation. Ends with an update(). No version: it is
    // there since before start().
    Result<void> announce(Clock::time_point now, std::string_view tpm_version);
    // The guest gets no TPM: the reason goes to error/backend/vtpm/<domid>/<devid>/error. State
    // stays 1, so libxl gives up after its 10 s; its removal is then answered at once.
    Result<void> refuse(std::string_view reason);

    // Takes the events, looks, acts. Errors are xenstore's or the hypervisor's, never the guest's.
    Result<void> update(Clock::time_point now);
    // When update() wants to be called even if nothing happens.
    std::optional<Clock::time_point> next_deadline() const { return deadline_; }

    bool finished() const { return finished_; }                       // gone() has been called
    const std::optional<RingAddress>& ring() const { return ring_; }  // the one being served
    const DomainLife& life() const { return life_; }                  // as last seen

    // libxl waits for state 2 exactly and may miss it (see back_device.cpp).
    static constexpr auto show_init_wait = std::chrono::milliseconds(1000);
    // How long a live guest may take to let go of a device that is being removed; libxl waits 10 s.
    static constexpr auto removal_patience = std::chrono::milliseconds(5000);
    // From the device's removal to the end of a domain that does not run any more.
    static constexpr auto going_patience = std::chrono::milliseconds(1000);
    static constexpr auto connect_retry = std::chrono::milliseconds(5000);
    static constexpr auto store_retry = std::chrono::milliseconds(1000);
    // How often a suspended domain is looked at.
    static constexpr auto suspend_look = std::chrono::milliseconds(100);

  private:
    using Moment = Clock::time_point;

    Result<bool> take_events();
    Result<void> look_and_act(Moment now);
    Result<void> look_at_domain();
    Result<DeviceView> settled_view(Moment now);

    Result<void> act(const DeviceView& view, Moment now);
    Result<void> end(const DeviceView& view);
    bool is_going(Moment now);
    Result<void> see_off(const DeviceView& view, Moment now);
    Result<void> follow_frontend(const DeviceView& view, Moment now);

    Result<void> take_offer(const DeviceView& view, Moment now);
    Result<void> begin_counting(const DeviceView& view);
    bool offered_anew(const DeviceView& view) const;
    Result<void> try_connect(const DeviceView& view, const RingAddress& ring, Moment now);
    Result<void> show_connected(const DeviceView& view, Moment now);
    Result<void> reject(const DeviceView& view, const Error& error, Moment now);

    void drop_ring();
    Result<void> set_state(const DeviceView& view, XenbusState state);
    void wake_at(Moment moment);

    Store& store_;
    Domains& domains_;
    BackDeviceOwner& owner_;
    DomainId domid_;
    DeviceNodes nodes_;

    Uuid uuid_;
    DomainLife life_;
    bool was_connected_ = false;
    bool was_new_ = false;
    bool announced_ = false;
    bool refused_ = false;
    bool powered_off_ = false;
    bool finished_ = false;

    std::optional<RingAddress> ring_;
    XenbusState connected_at_ = XenbusState::initialised;  // the front end's state at connect()
    unsigned frontend_writes_ = 0;                         // of its state node, since connect()
    bool offer_tried_ = false;                             // and not written to since
    bool answered_closing_ = false;                        // own state 5 is ours, not libxl's

    std::optional<Moment> deadline_;
    std::optional<Moment> retry_at_;
    std::optional<Moment> removal_ends_;
    std::optional<Moment> going_ends_;
    Moment show_connected_from_{};
    RateBound looks_;
    RateBound connects_;
};

}  // namespace vtpm::xen
