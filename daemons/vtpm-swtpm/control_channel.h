// ControlChannel: one peer on swtpm's control channel: bytes and descriptors until they are a
// request, and its answer. Nothing in here waits for the peer. One thread.
#pragma once

#include <chrono>
#include <optional>

#include "control_message.h"
#include "vtpm/base/fd.h"

namespace vtpm::swtpm {

class ControlChannel {
  public:
    using Clock = std::chrono::steady_clock;
    // From a request's first byte to its last.
    static constexpr std::chrono::milliseconds patience{500};

    explicit ControlChannel(Fd socket) : socket_(std::move(socket)) {}

    int fd() const { return socket_.get(); }
    // Then a request that is not complete is given up, and the peer with it.
    std::optional<Clock::time_point> deadline() const { return deadline_; }

    enum class Turn { nothing, request, malformed, closed };
    // Reads what is there. Turn::request, malformed: request() and take_descriptor() say what; then
    // send() the answer.
    Turn on_readable(Clock::time_point now);
    const Request& request() const { return request_; }
    Fd take_descriptor() { return std::move(descriptor_); }
    // False: the peer does not take it.
    bool send(ByteView answer);

  private:
    enum class Got { bytes, nothing, end };
    Got read_some();

    Fd socket_;
    Bytes received_;
    Request request_{};
    Fd descriptor_;
    std::optional<Clock::time_point> deadline_;
};

}  // namespace vtpm::swtpm
