// Channel: frames over a connected UNIX stream socket, for code that waits for its answer.
//
// A frame is 12 bytes of sizes, a message (protobuf, never secret) and a payload (raw, may be
// secret):
//     u32 magic "XVT1" | u32 message size | u32 payload size | message | payload     (big-endian)
// Sizes beyond the limits are refused before a byte is allocated. After any error the stream is out
// of step and the channel answers nothing but that error: close it.
//
// Owned by one thread. Uses read, write, writev and poll only, so that it works inside the engine's
// jail; receive_with_descriptor() and a send with a descriptor use recvmsg and sendmsg. SIGPIPE
// must be ignored in the process.
#pragma once

#include <google/protobuf/message_lite.h>

#include <chrono>
#include <cstdint>

#include "vtpm/base/bytes.h"
#include "vtpm/base/fd.h"
#include "vtpm/base/secret_bytes.h"

namespace vtpm::wire {

inline constexpr std::uint32_t protocol_version = 2;
inline constexpr std::size_t prefix_size = 12;
inline constexpr std::size_t max_message_size = 256UL * 1024;
inline constexpr std::size_t max_payload_size = 2048UL * 1024;

struct FrameSizes {
    std::size_t message;
    std::size_t payload;
};
Bytes frame_prefix(FrameSizes sizes);
Result<FrameSizes> parse_prefix(ByteView prefix);  // checks the magic and both limits

struct Frame {
    Bytes message;
    SecretBytes payload;
    Fd descriptor;  // if one came along
};

class Channel {
  public:
    using Timeout = std::chrono::milliseconds;

    explicit Channel(Fd socket) : socket_(std::move(socket)) {}

    Result<void> send(const google::protobuf::MessageLite& message, ByteView payload = {},
                      int descriptor = -1);
    // Waits no longer than `timeout` for the whole frame.
    Result<Frame> receive(Timeout timeout);
    Result<Frame> receive_with_descriptor(Timeout timeout);

    int fd() const { return socket_.get(); }
    bool broken() const { return broken_; }

  private:
    using Deadline = std::chrono::steady_clock::time_point;

    Result<void> send_parts(MutableByteView head, ByteView payload, int descriptor);
    Result<Frame> receive_rest(ByteView prefix, Deadline deadline, Fd descriptor);
    Result<void> read_until(MutableByteView bytes, Deadline deadline);
    Result<void> wait_readable(Deadline deadline);
    template <typename T>
    Result<T> note(Result<T> result);

    Fd socket_;
    bool broken_ = false;
};

// Parses a frame's message; Errc::malformed if it is not one of type M.
template <typename M>
Result<M> parse(const Frame& frame) {
    M message;
    if (!message.ParseFromArray(frame.message.data(), static_cast<int>(frame.message.size()))) {
        return fail(Errc::malformed, "a message that does not parse");
    }
    return message;
}

// Connects to a listening UNIX socket. Errc::unavailable if nobody listens there.
Result<Fd> connect_to(const std::string& path);

}  // namespace vtpm::wire
