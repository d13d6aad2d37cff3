#include "vtpm/wire/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "vtpm/base/descriptor_message.h"

namespace vtpm::wire {
namespace {

constexpr std::uint32_t magic = 0x58565431;  // "XVT1"

int milliseconds_until(std::chrono::steady_clock::time_point deadline) {
    using std::chrono::milliseconds;
    const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
    return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 3600 * 1000));
}

}  // namespace

Bytes frame_prefix(FrameSizes sizes) {
    return ByteWriter()
        .u32(magic)
        .u32(static_cast<std::uint32_t>(sizes.message))
        .u32(static_cast<std::uint32_t>(sizes.payload))
        .take();
}

Result<FrameSizes> parse_prefix(ByteView prefix) {
    ByteReader reader(prefix);
    VTPM_TRY(const auto seen, reader.u32());
    if (seen != magic)
        return fail(Errc::malformed, "not a frame of this protocol");
    VTPM_TRY(const std::size_t message, reader.u32());
    VTPM_TRY(const std::size_t payload, reader.u32());
    if (message > max_message_size || payload > max_payload_size) {
        return fail(Errc::too_large, "a frame beyond the limits");
    }
    return FrameSizes{message, payload};
}

// Any failure leaves the stream at an unknown position.
template <typename T>
Result<T> Channel::note(Result<T> result) {
    if (!result)
        broken_ = true;
    return result;
}

Result<void> Channel::send(const google::protobuf::MessageLite& message, ByteView payload,
                           int descriptor) {
    if (broken_)
        return fail(Errc::unavailable, "the connection failed before");
    const std::size_t size = message.ByteSizeLong();
    if (size > max_message_size || payload.size() > max_payload_size) {
        return fail(Errc::too_large, "a frame beyond the limits");
    }
    Bytes head = frame_prefix({size, payload.size()});
    head.resize(prefix_size + size);
    message.SerializeWithCachedSizesToArray(head.data() + prefix_size);
    return note(send_parts(head, payload, descriptor));
}

// At once: a peer that woke up for the head alone would go to sleep again for the payload.
Result<void> Channel::send_parts(MutableByteView head, ByteView payload, int descriptor) {
    DescriptorMessage message(head, descriptor);
    const std::array<iovec, 2> parts = {
        iovec{head.data(), head.size()},
        iovec{const_cast<std::uint8_t*>(payload.data()), payload.size()}};
    ssize_t sent = 0;
    do {
        sent = descriptor < 0
                   ? ::writev(socket_.get(), parts.data(), static_cast<int>(parts.size()))
                   : ::sendmsg(socket_.get(), message.header(), MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
        return fail(Errc::unavailable, "the other side closed the connection");
    if (sent < 0)
        return fail_errno("sending a frame", errno);
    const auto done = static_cast<std::size_t>(sent);
    VTPM_CHECK(write_all(socket_.get(), head.subspan(std::min(done, head.size()))));
    return write_all(socket_.get(), payload.subspan(done - std::min(done, head.size())));
}

Result<Frame> Channel::receive(Timeout timeout) {
    if (broken_)
        return fail(Errc::unavailable, "the connection failed before");
    const Deadline deadline = std::chrono::steady_clock::now() + timeout;
    std::array<std::uint8_t, prefix_size> prefix{};
    VTPM_CHECK(note(read_until(prefix, deadline)));
    return note(receive_rest(prefix, deadline, Fd()));
}

Result<Frame> Channel::receive_with_descriptor(Timeout timeout) {
    if (broken_)
        return fail(Errc::unavailable, "the connection failed before");
    const Deadline deadline = std::chrono::steady_clock::now() + timeout;
    VTPM_CHECK(note(wait_readable(deadline)));
    std::array<std::uint8_t, prefix_size> prefix{};
    DescriptorMessage message(prefix, -1);
    const auto got = ::recvmsg(socket_.get(), message.header(), MSG_CMSG_CLOEXEC);
    if (got < 0 && errno != ECONNRESET)
        return note(Result<Frame>(fail_errno("recvmsg", errno)));
    if (got <= 0) {
        return note(Result<Frame>(fail(Errc::unavailable, "the other side closed the connection")));
    }
    Fd descriptor = message.take_received();
    VTPM_CHECK(
        note(read_until(MutableByteView(prefix).subspan(static_cast<std::size_t>(got)), deadline)));
    return note(receive_rest(prefix, deadline, std::move(descriptor)));
}

Result<Frame> Channel::receive_rest(ByteView prefix, Deadline deadline, Fd descriptor) {
    VTPM_TRY(const FrameSizes sizes, parse_prefix(prefix));
    Frame frame;
    frame.descriptor = std::move(descriptor);
    frame.message.resize(sizes.message);
    VTPM_CHECK(read_until(frame.message, deadline));
    frame.payload = SecretBytes(sizes.payload);
    VTPM_CHECK(read_until(frame.payload.span(), deadline));
    return frame;
}

Result<void> Channel::read_until(MutableByteView bytes, Deadline deadline) {
    while (!bytes.empty()) {
        VTPM_CHECK(wait_readable(deadline));
        const auto got = ::read(socket_.get(), bytes.data(), bytes.size());
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0 && errno != ECONNRESET)
            return fail_errno("read", errno);
        if (got <= 0)
            return fail(Errc::unavailable, "the other side closed the connection");
        bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
    return {};
}

Result<void> Channel::wait_readable(Deadline deadline) {
    pollfd wanted{socket_.get(), POLLIN, 0};
    for (;;) {
        const int ready = ::poll(&wanted, 1, milliseconds_until(deadline));
        if (ready > 0)
            return {};
        if (ready == 0)
            return fail(Errc::timeout, "no answer in time");
        if (errno != EINTR)
            return fail_errno("poll", errno);
    }
}

Result<Fd> connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return fail(Errc::invalid_argument, "socket path too long: " + path);
    }
    std::copy(path.begin(), path.end(), std::begin(address.sun_path));
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket.valid())
        return fail_errno("socket", errno);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) !=
        0) {
        if (errno == EACCES || errno == EPERM) {
            return fail(Errc::permission, "not allowed to connect to " + path);
        }
        return fail(Errc::unavailable,
                    "nobody answers at " + path + " (" + std::strerror(errno) + ")");
    }
    return socket;
}

}  // namespace vtpm::wire
