#include "chip_relay.h"

#include <poll.h>

#include <cerrno>

#include "vtpm/base/log.h"
#include "vtpm/tpm/message.h"

namespace vtpm::front {
namespace {

// TPM2_CC_SET_LOCALITY of linux/vtpm_proxy.h: the kernel's, never a guest program's, which it
// filters. A header and the locality.
constexpr std::uint32_t set_locality_command = 0x20001000;
constexpr std::size_t set_locality_size = tpm::header_size + 1;

constexpr std::size_t at_signal = 0, at_store = 1, at_heir = 2, at_chip = 3;

}  // namespace

Result<ChipRelay::End> ChipRelay::run(const std::function<void()>& ready) {
    for (;;) {
        if (!ready_ && chip_.registered()) {
            ready_ = true;
            ready();
        }
        std::array<pollfd, 4> events{{{signals_, POLLIN, 0},
                                      {store_fd_, POLLIN, 0},
                                      {heirs_.fd(), POLLIN, 0},
                                      // While there is no TPM to ask, its users wait.
                                      {connected_ ? chip_.fd() : -1, POLLIN, 0}}};
        if (::poll(events.data(), events.size(), patience()) < 0 && errno != EINTR)
            return fail_errno("poll", errno);
        if (events[at_signal].revents != 0) {
            say_farewell();
            return End::stopped;
        }
        if (events[at_store].revents != 0 || !connected_)
            VTPM_CHECK(look());
        if (removed_)
            return End::removed;
        if (events[at_heir].revents != 0) {
            VTPM_TRY(const bool inherited, let_inherit());
            if (inherited)
                return End::inherited;
        }
        if (connected_ && events[at_chip].revents != 0)
            VTPM_CHECK(relay_one());
    }
}

int ChipRelay::patience() const {
    if (!ready_)
        return static_cast<int>(ready_interval.count());
    return connected_ ? -1 : static_cast<int>(look_interval.count());
}

// What we hold of the ring is given back in any case: nothing of it is left to an heir.
Result<bool> ChipRelay::let_inherit() {
    VTPM_TRY(const auto heir, heirs_.accept());
    if (!heir)
        return false;
    connected_ = false;
    VTPM_CHECK(device_.drop());
    VTPM_TRY(const bool inherited, bequeath(*heir, chip_.fd(), heir_patience));
    if (inherited)
        return true;
    spdlog::warn("another vtpm-front took the TPM and does not serve it; going on");
    VTPM_CHECK(reconnect());
    return false;
}

Result<void> ChipRelay::look() {
    using Standing = xen::FrontDevice::Standing;
    VTPM_TRY(const auto standing, device_.look());
    removed_ = standing == Standing::gone;
    // A guest may be restored without its device.
    if (standing == Standing::resumed || standing == Standing::gone)
        lay_aside_(device_.give_up_ring());
    // One that came too late for us is not taken as it is: who knows what it has to do with our
    // page.
    const bool late = standing == Standing::connected && !connected_;
    if (standing == Standing::resumed || standing == Standing::begin_again || late)
        return reconnect();
    if (standing == Standing::closing && device_.offered()) {
        spdlog::warn("the back end has closed the TPM's device");
        connected_ = false;
        return device_.drop();
    }
    return {};
}

// It may take the host a while to have a back end for us, after a migration or an upgrade.
Result<void> ChipRelay::reconnect() {
    const auto done = device_.connect(connect_patience);
    connected_ = done.has_value();
    if (connected_) {
        spdlog::info("connected to the back end again");
        told_ = false;
    } else if (!std::exchange(told_, true)) {
        spdlog::warn("no connection to the back end, trying on: {}", done.error().context);
    }
    return {};
}

Result<void> ChipRelay::relay_one() {
    VTPM_TRY(const bool asked, chip_.asks());
    if (!asked)
        return {};
    VTPM_TRY(const auto command, chip_.take());
    VTPM_TRY(const ByteView answer, answer_to(command.view()));
    const auto answered = chip_.answer(answer);
    wipe(response_);
    return answered;
}

Result<ByteView> ChipRelay::answer_to(ByteView command) {
    const auto header = tpm::parse_header(command);
    if (!header || header->size != command.size() || command.size() > response_.size())
        return refusal(tpm::Refusal::bad_size);
    if (header->code == set_locality_command)
        return set_locality(command);
    return ask(command);
}

Result<ByteView> ChipRelay::set_locality(ByteView command) {
    if (command.size() != set_locality_size)
        return refusal(tpm::Refusal::bad_size);
    locality_ = command.back();
    return ByteView(response_).first(tpm::write_success(response_));
}

Result<ByteView> ChipRelay::ask(ByteView command) {
    VTPM_CHECK(device_.ring().submit(command, locality_));
    bool cancelled = false;
    for (;;) {
        const auto size = device_.ring().wait(response_, look_interval);
        if (size)
            return answer_of(*size);
        if (size.error().code == Errc::unavailable)
            return refusal(tpm::Refusal::cancelled);
        if (size.error().code != Errc::timeout)
            return tl::make_unexpected(size.error());
        VTPM_TRY(const auto standing, device_.look());
        pollfd signal{signals_, POLLIN, 0};
        const bool stopped = ::poll(&signal, 1, 0) > 0;
        if (stopped || standing != xen::FrontDevice::Standing::connected)
            return what_was_left(standing);
        // The kernel has the next command for us: it has given this one up.
        VTPM_TRY(const bool asked, chip_.asks());
        if (asked && !std::exchange(cancelled, true))
            VTPM_CHECK(device_.ring().cancel());
    }
}

// The page of a ring that is no more is ours: an answer that came before the end is in it.
Result<ByteView> ChipRelay::what_was_left(xen::FrontDevice::Standing standing) {
    const auto size = device_.ring().take(response_);
    connected_ = false;
    removed_ = standing == xen::FrontDevice::Standing::gone;
    if (size && *size)
        return answer_of(**size);
    spdlog::warn("the connection to the back end went in the middle of a command");
    return refusal(tpm::Refusal::cancelled);
}

ByteView ChipRelay::answer_of(std::size_t size) {
    return size < tpm::header_size ? refusal(tpm::Refusal::failed)
                                   : ByteView(response_).first(size);
}

ByteView ChipRelay::refusal(tpm::Refusal why) {
    return ByteView(response_).first(tpm::write_refusal(tpm::Version::v2_0, why, response_));
}

// The kernel's own TPM2_Shutdown does not come to us: the chip's descriptor has to be closed for
// it. If another command follows, after a restart of ours, this has no effect (Part 1, 12.2.3.2).
void ChipRelay::say_farewell() {
    const auto standing = device_.look();
    if (!connected_ || !standing || *standing != xen::FrontDevice::Standing::connected)
        return lay_aside_(device_.give_up_ring());  // a resume may have been before the signal
    const Bytes command = tpm::shutdown_clear();
    const auto done = device_.ring().transmit(command, 0, response_, farewell_patience);
    if (!done)
        spdlog::warn("the TPM did not take its shutdown: {}", done.error().context);
    (void)device_.drop();
}

}  // namespace vtpm::front
