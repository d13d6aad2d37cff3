#include "vtpm/xen/front_device.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>

#include "vtpm/xen/store_number.h"

namespace vtpm::xen {

namespace {

constexpr const char* backend_token = "backend";
constexpr const char* front_token = "own";

}  // namespace

FrontDevice::FrontDevice(Store& store, GrantShare& grants, EventPorts& ports, std::string path)
    : store_(store), grants_(grants), ports_(ports), path_(std::move(path)) {}

Result<void> FrontDevice::find_backend() {
    if (!watching_)
        VTPM_CHECK(store_.watch(path_, front_token));
    watching_ = true;
    VTPM_TRY(const auto backend, store_.read(path_ + "/backend"));
    VTPM_TRY(const auto backend_id, store_.read(path_ + "/backend-id"));
    const auto domid = parse_store_number(backend_id.value_or(""));
    if (!backend || !domid)
        return fail(Errc::not_found, "no vtpm device at " + path_);
    backend_domid_ = *domid;
    if (backend_path_ == *backend)
        return {};
    if (!backend_path_.empty())
        (void)store_.unwatch(backend_path_ + "/state", backend_token);
    backend_path_.clear();
    VTPM_CHECK(store_.watch(*backend + "/state", backend_token));
    backend_path_ = *backend;
    return {};
}

Result<void> FrontDevice::take_events() {
    for (;;) {
        VTPM_TRY(const auto event, store_.next_event());
        if (!event)
            return {};
    }
}

Result<std::optional<XenbusState>> FrontDevice::backend_state() {
    VTPM_TRY(const auto text, store_.read(backend_path_ + "/state"));
    return text ? parse_xenbus_state(*text) : std::nullopt;
}

// A domain that is resumed has another number, and so other directories, in which nothing is
// connected yet.
Result<FrontDevice::Standing> FrontDevice::look() {
    VTPM_CHECK(take_events());
    VTPM_TRY(const auto backend, store_.read(path_ + "/backend"));
    if (!backend)
        return Standing::gone;
    VTPM_TRY(const auto own, store_.read(path_ + "/state"));
    if (*backend != backend_path_ || own == to_string(XenbusState::initialising))
        return Standing::resumed;
    VTPM_TRY(const auto state, backend_state());
    if (!state || *state == XenbusState::closing || *state == XenbusState::closed)
        return Standing::closing;
    return offered() && *state == XenbusState::connected ? Standing::connected
                                                         : Standing::begin_again;
}

Result<std::string> FrontDevice::tpm_version(std::chrono::milliseconds timeout) {
    VTPM_CHECK(find_backend());
    VTPM_CHECK(await_backend(timeout,
                             [](XenbusState state) { return state != XenbusState::initialising; }));
    VTPM_TRY(const auto version, store_.read(backend_path_ + "/tpm-version"));
    return version.value_or("");
}

Result<void> FrontDevice::set_state(XenbusState state) {
    return store_.write(path_ + "/state", to_string(state));
}

Result<void> FrontDevice::await_backend(std::chrono::milliseconds timeout,
                                        const std::function<bool(XenbusState)>& reached) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + timeout;
    for (;;) {
        VTPM_CHECK(take_events());
        VTPM_TRY(const auto text, store_.read(backend_path_ + "/state"));
        if (!text)
            return fail(Errc::unavailable, "the back end's directory is gone");
        const auto state = parse_xenbus_state(*text);
        if (state && reached(*state))
            return {};

        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        if (left.count() <= 0)
            return fail(Errc::timeout, "the back end does not answer");
        pollfd event{store_.fd(), POLLIN, 0};
        if (::poll(&event, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) {
            return fail_errno("poll", errno);
        }
    }
}

Result<void> FrontDevice::offer() {
    VTPM_CHECK(find_backend());
    forget_ring();
    VTPM_TRY(granted_, grants_.share(backend_domid_));
    VTPM_TRY(port_, ports_.open(backend_domid_));
    ring_ = std::make_unique<FrontRing>(granted_->memory.page(), *port_->channel);
    const std::array<StoreEntry, 3> entries{{
        {path_ + "/ring-ref", std::to_string(granted_->ref)},
        {path_ + "/event-channel", std::to_string(port_->port)},
        {path_ + "/feature-protocol-v2", "1"},
    }};
    VTPM_CHECK(store_.write_together(entries));
    return set_state(XenbusState::initialised);
}

// After a drop(), by us or by a process before us, the back end's 4 is the old connection's until
// it has seen the 6. Taken for an answer, it would be followed by a 6 that looks like the end of
// the new one. A back end that is not there now is not waited for for ever.
Result<void> FrontDevice::await_goodbye(std::chrono::milliseconds timeout) {
    VTPM_TRY(const auto own, store_.read(path_ + "/state"));
    if (own != to_string(XenbusState::closed))
        return {};
    auto left = await_backend(std::min(timeout, goodbye_patience),
                              [](XenbusState state) { return state != XenbusState::connected; });
    return left || left.error().code == Errc::timeout ? Result<void>() : left;
}

Result<void> FrontDevice::connect(std::chrono::milliseconds timeout) {
    VTPM_CHECK(find_backend());
    VTPM_CHECK(await_goodbye(timeout));
    VTPM_CHECK(offer());
    VTPM_CHECK(
        await_backend(timeout, [](XenbusState state) { return state == XenbusState::connected; }));
    return set_state(XenbusState::connected);
}

Result<void> FrontDevice::close(std::chrono::milliseconds timeout) {
    VTPM_CHECK(find_backend());
    VTPM_CHECK(set_state(XenbusState::closing));
    VTPM_CHECK(await_backend(timeout, [](XenbusState state) {
        return state == XenbusState::closing || state == XenbusState::closed;
    }));
    return drop();
}

Result<void> FrontDevice::drop() {
    forget_ring();
    return set_state(XenbusState::closed);
}

std::unique_ptr<EventChannel> FrontDevice::give_up_ring() {
    ring_.reset();
    auto channel = port_ ? std::move(port_->channel) : nullptr;
    forget_ring();
    return channel;
}

void FrontDevice::forget_ring() {
    ring_.reset();
    port_.reset();
    granted_.reset();
}

}  // namespace vtpm::xen
