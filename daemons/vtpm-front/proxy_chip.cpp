#include "proxy_chip.h"

#include <fcntl.h>
#include <linux/vtpm_proxy.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "vtpm/tpm/message.h"

namespace vtpm::front {

Result<ProxyChip> ProxyChip::make() {
    const Fd control(::open("/dev/vtpmx", O_RDWR | O_CLOEXEC));
    if (!control.valid())
        return fail_errno("/dev/vtpmx (modprobe tpm_vtpm_proxy)", errno);
    vtpm_proxy_new_dev device{};
    device.flags = VTPM_PROXY_FLAG_TPM2;
    if (::ioctl(control.get(), VTPM_PROXY_IOC_NEW_DEV, &device) != 0)
        return fail_errno("/dev/vtpmx makes no TPM", errno);
    Fd descriptor(static_cast<int>(device.fd));
    if (::fcntl(descriptor.get(), F_SETFD, FD_CLOEXEC) != 0)
        return fail_errno("fcntl", errno);
    ProxyChip chip(std::move(descriptor));
    chip.device_ = "/dev/tpmrm" + std::to_string(device.tpm_num);
    return chip;
}

ProxyChip ProxyChip::adopt(Fd descriptor) {
    ProxyChip chip(std::move(descriptor));
    std::array<std::uint8_t, tpm::header_size> cancelled{};
    tpm::write_refusal(tpm::Version::v2_0, tpm::Refusal::cancelled, cancelled);
    (void)chip.answer(cancelled);
    return chip;
}

// Not by access(): a unit with a list of devices (DevicePolicy=) may not even ask for this one's.
bool ProxyChip::registered() const {
    std::error_code unreachable;
    return device_.empty() || std::filesystem::exists(device_, unreachable);
}

Result<bool> ProxyChip::asks() const {
    pollfd events{fd_.get(), POLLIN, 0};
    if (::poll(&events, 1, 0) < 0 && errno != EINTR)
        return fail_errno("poll", errno);
    if ((events.revents & (POLLHUP | POLLERR)) != 0)
        return fail(Errc::unavailable, "the kernel has given the TPM up; its log says why");
    return (events.revents & POLLIN) != 0;
}

Result<SecretBytes> ProxyChip::take() {
    SecretBytes command(max_message);
    ssize_t size = 0;
    do {
        size = ::read(fd_.get(), command.span().data(), command.size());
    } while (size < 0 && errno == EINTR);
    if (size < 0)
        return fail_errno("reading a command of the kernel's", errno);
    return SecretBytes::copy_of(command.view().first(static_cast<std::size_t>(size)));
}

// EIO: it waits for no answer, or for that of the next command, which we have not taken yet.
Result<void> ProxyChip::answer(ByteView response) {
    ssize_t size = 0;
    do {
        size = ::write(fd_.get(), response.data(), response.size());
    } while (size < 0 && errno == EINTR);
    if (size >= 0 || errno == EIO)
        return {};
    if (errno == EPIPE)
        return fail(Errc::unavailable, "the kernel has given the TPM up; its log says why");
    return fail_errno("answering the kernel", errno);
}

}  // namespace vtpm::front
