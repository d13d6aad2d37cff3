#include "vtpm/xen/front_ring.h"

#include <poll.h>

#include <cerrno>

namespace vtpm::xen {

namespace {

using Clock = std::chrono::steady_clock;

// Until the descriptor is readable or the deadline has passed; which of them, the caller finds out.
Result<void> wait_readable(int fd, Clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0)
        return fail(Errc::timeout, "no answer from the back end in time");
    pollfd event{fd, POLLIN, 0};
    if (::poll(&event, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) {
        return fail_errno("poll", errno);
    }
    return {};
}

}  // namespace

Result<void> FrontRing::submit(ByteView request, std::uint8_t locality) {
    if (request.empty())
        return fail(Errc::invalid_argument, "an empty command");
    if (request.size() > tpmif::max_packet) {
        return fail(Errc::too_large, "a command larger than the ring page");
    }
    const auto state = page_.state();
    if (state != tpmif::state::idle && state != tpmif::state::finish) {
        return fail(Errc::in_use, "the ring is busy with an earlier command");
    }
    page_.copy_out(0, request);
    page_.set_length(static_cast<std::uint32_t>(request.size()));
    page_.set_locality(locality);
    page_.publish(tpmif::state::submit);
    return events_.notify();
}

Result<std::optional<std::size_t>> FrontRing::take(MutableByteView response) {
    const auto header = page_.header();
    if (header.state == tpmif::state::idle) {
        return fail(Errc::unavailable, "the back end cancelled the command");
    }
    if (header.state != tpmif::state::finish)
        return std::optional<std::size_t>();
    if (header.length > tpmif::max_packet || header.nr_extra_pages != 0) {
        return fail(Errc::malformed, "the back end's answer is larger than the ring page");
    }
    if (header.length > response.size())
        return fail(Errc::too_large, "no room for the answer");
    return std::optional(page_.copy_in(0, response.first(header.length)));
}

Result<std::size_t> FrontRing::wait(MutableByteView response, std::chrono::milliseconds timeout) {
    const auto deadline = Clock::now() + timeout;
    for (;;) {
        VTPM_TRY(const auto size, take(response));
        if (size)
            return *size;
        VTPM_CHECK(wait_readable(events_.fd(), deadline));
        VTPM_CHECK(events_.consume());
    }
}

Result<void> FrontRing::cancel() {
    page_.publish(tpmif::state::cancel);
    return events_.notify();
}

Result<std::size_t> FrontRing::transmit(ByteView request, std::uint8_t locality,
                                        MutableByteView response,
                                        std::chrono::milliseconds timeout) {
    VTPM_CHECK(submit(request, locality));
    return wait(response, timeout);
}

}  // namespace vtpm::xen
