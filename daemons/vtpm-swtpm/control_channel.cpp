#include "control_channel.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

namespace vtpm::swtpm {
namespace {

constexpr std::size_t piece_size = 16UL * 1024;

// All that came, so that none stays open; the last one counts.
Fd descriptor_in(msghdr& message) {
    Fd descriptor;
    for (auto* part = CMSG_FIRSTHDR(&message); part != nullptr;
         part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(part) + (at - CMSG_LEN(0)), sizeof(int));
            descriptor = Fd(fd);
        }
    }
    return descriptor;
}

}  // namespace

ControlChannel::Got ControlChannel::read_some() {
    std::array<std::uint8_t, piece_size> piece{};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(4 * sizeof(int))> control{};
    iovec part{piece.data(), piece.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return Got::nothing;
    if (got <= 0)
        return Got::end;
    if (auto descriptor = descriptor_in(message); descriptor.valid())
        descriptor_ = std::move(descriptor);
    received_.insert(received_.end(), piece.begin(), piece.begin() + got);
    return Got::bytes;
}

ControlChannel::Turn ControlChannel::on_readable(Clock::time_point now) {
    const auto got = read_some();
    if (got != Got::bytes)
        return got == Got::nothing ? Turn::nothing : Turn::closed;
    const auto framing = frame(received_, request_);
    if (framing == Framing::incomplete) {
        if (!deadline_)
            deadline_ = now + patience;
        return Turn::nothing;
    }
    deadline_.reset();
    return framing == Framing::complete ? Turn::request : Turn::malformed;
}

bool ControlChannel::send(ByteView answer) {
    received_.clear();
    descriptor_.reset();
    const auto sent =
        ::send(socket_.get(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent == static_cast<ssize_t>(answer.size());
}

}  // namespace vtpm::swtpm
