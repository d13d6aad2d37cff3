// BackDevice's answers to what the front end writes.
#include "vtpm/xen/back_device.h"

namespace vtpm::xen {

Result<void> BackDevice::follow_frontend(const DeviceView& view, Moment now) {
    if (!view.frontend_present) {
        drop_ring();
        return set_state(view, XenbusState::closed);
    }
    if (!view.frontend)
        return {};
    switch (*view.frontend) {
        case XenbusState::initialising:
            drop_ring();
            return set_state(view, XenbusState::init_wait);
        case XenbusState::init_wait:
            return {};
        case XenbusState::initialised:
        case XenbusState::connected:
            return take_offer(view, now);
        case XenbusState::closing:
            drop_ring();
            return set_state(view, XenbusState::closing);
        case XenbusState::closed:
            drop_ring();
            return set_state(view, XenbusState::closed);
    }
    return {};
}

Result<void> BackDevice::take_offer(const DeviceView& view, Moment now) {
    const auto ring = nodes_.offered_ring();
    if (!ring && ring.error().code != Errc::malformed)
        return tl::make_unexpected(ring.error());
    // Since its state was read, the guest may have begun another connection, and these are that
    // one's numbers: connected now, its 3 and 4 still to come would look like yet another offer.
    VTPM_TRY(const bool disturbed, take_events());
    if (disturbed || !view.settled) {
        wake_at(now);
        return {};
    }
    if (ring && ring_ && !offered_anew(view))
        return show_connected(view, now);

    drop_ring();
    if (offer_tried_ && (!retry_at_ || now < *retry_at_)) {
        if (retry_at_)
            wake_at(*retry_at_);
        return {};
    }
    if (!ring)
        return reject(view, ring.error(), now);
    return try_connect(view, *ring, now);
}

// For a ring that is connected already: what start()'s watches had to say is nothing new. A front
// end at 3 may have offered it anew, with the same numbers; connected once more, nothing is lost.
// One at 4 with other numbers has done so while nobody looked.
Result<void> BackDevice::begin_counting(const DeviceView& view) {
    const auto offered = nodes_.offered_ring();
    VTPM_CHECK(take_events());
    if (view.frontend == XenbusState::initialised || (offered && *offered != *ring_))
        drop_ring();
    connected_at_ = XenbusState::connected;
    frontend_writes_ = 0;
    return {};
}

// A guest that resumes in place or reloads its driver may well get the same grant and port again,
// and we may miss the 6 in between; serving on would then serve a page that nobody reads. But no
// front end writes its state for nothing: after connect() at 3 there comes one more write, its 4.
// Other numbers alone say nothing: the state that makes an offer of them is still to come.
// Connected before it, that state would look like yet another offer, and the guest would lose the
// answer that it is about to read.
bool BackDevice::offered_anew(const DeviceView& view) const {
    const bool last_step =
        view.frontend == XenbusState::connected && connected_at_ == XenbusState::initialised;
    return frontend_writes_ > (last_step ? 1U : 0U);
}

Result<void> BackDevice::try_connect(const DeviceView& view, const RingAddress& ring, Moment now) {
    if (!connects_.allows(now)) {
        wake_at(connects_.allowed_from());
        return {};
    }
    connects_.take(now);
    if (auto connected = owner_.connect(ring); !connected) {
        return reject(view, connected.error(), now);
    }
    ring_ = ring;
    connected_at_ = *view.frontend;
    frontend_writes_ = 0;
    offer_tried_ = false;
    VTPM_CHECK(nodes_.withdraw_report());
    return show_connected(view, now);
}

Result<void> BackDevice::show_connected(const DeviceView& view, Moment now) {
    if (view.own != XenbusState::connected && now < show_connected_from_) {
        wake_at(show_connected_from_);
        return {};
    }
    return set_state(view, XenbusState::connected);
}

Result<void> BackDevice::reject(const DeviceView& view, const Error& error, Moment now) {
    offer_tried_ = true;
    retry_at_.reset();
    if (error.next == NextAction::retry || error.next == NextAction::retry_later) {
        retry_at_ = now + connect_retry;
        wake_at(*retry_at_);
    }
    VTPM_CHECK(nodes_.report(error.context));
    return set_state(view, XenbusState::init_wait);
}

}  // namespace vtpm::xen
