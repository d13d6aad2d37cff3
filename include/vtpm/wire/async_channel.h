// AsyncChannel: the frames of channel.h for a server on a Boost.Asio loop.
//
// One receive and one send at a time; replies are sent in lockstep with requests. A frame whose
// first byte has arrived must be complete within frame_timeout. Any error closes the channel and is
// reported once, to the handler that waits. Owned through shared_ptr by its session (handlers in
// flight keep it alive); all calls on the loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>

#include "vtpm/wire/channel.h"

namespace vtpm::wire {

class AsyncChannel : public std::enable_shared_from_this<AsyncChannel> {
  public:
    using Socket = boost::asio::local::stream_protocol::socket;
    using OnFrame = std::function<void(Result<Frame>)>;
    using OnSent = std::function<void(Result<void>)>;

    static constexpr std::chrono::seconds frame_timeout{10};

    // Frames beyond `limits` are errors, before a byte of them is allocated.
    explicit AsyncChannel(Socket socket, FrameSizes limits = {max_message_size, max_payload_size});

    void receive(OnFrame handler);
    void send(const google::protobuf::MessageLite& message, SecretBytes payload, Fd descriptor,
              OnSent handler);
    void close();
    int fd() { return socket_.native_handle(); }
    Socket::executor_type executor() { return socket_.get_executor(); }

  private:
    void on_readable(OnFrame handler);
    void on_prefix(OnFrame handler);
    void finish_receive(const OnFrame& handler, Result<Frame> result);
    Result<void> send_descriptor(int descriptor);
    void arm_timer();

    Socket socket_;
    FrameSizes limits_;
    boost::asio::steady_timer timer_;
    std::array<std::uint8_t, prefix_size> prefix_{};
    Frame incoming_;
    Bytes outgoing_;
    SecretBytes outgoing_payload_;
};

}  // namespace vtpm::wire
