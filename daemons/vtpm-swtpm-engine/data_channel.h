// DataChannel: swtpm's data channel: one TPM command, then one response, on a stream, with no frame
// but the size in the command's own header.
//
// Who writes a command waits for its response. So what is there at one time is one command: less
// than its header says is waited for, but not long; more than that, or a size that cannot be, is
// answered once, with a refusal, and thrown away as a whole. Nothing in here waits for the peer.
// The engine's thread only.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <optional>

#include "vtpm/base/fd.h"
#include "vtpm/xen/request_handler.h"

namespace vtpm::swtpm_engine {

class DataChannel {
  public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::size_t max_command = 4096;
    // From a command's first byte to its last.
    static constexpr std::chrono::milliseconds patience{500};

    // A non-blocking stream socket. The clock is asked only for a command that is not complete.
    using Now = std::function<Clock::time_point()>;
    explicit DataChannel(Fd socket, Now now = &Clock::now)
        : socket_(std::move(socket)), now_(std::move(now)) {}
    ~DataChannel();
    DataChannel(const DataChannel&) = delete;
    DataChannel& operator=(const DataChannel&) = delete;

    int fd() const { return socket_.get(); }
    // When a command that is not complete is given up: call on_time() then.
    std::optional<Clock::time_point> deadline() const { return deadline_; }

    // False: the peer is gone, or does not read its responses.
    bool on_readable(xen::RequestHandler& handler, std::uint8_t locality);
    bool on_time(xen::RequestHandler& handler);

  private:
    enum class Got { bytes, nothing, end };
    Got read_some();
    bool refuse(xen::RequestHandler& handler);
    bool respond(std::size_t size);

    // A processor that forgets its address translations between two processes looks each page up
    // for each command: what is small is on the page where the request begins.
    Fd socket_;
    std::size_t received_ = 0;
    std::optional<Clock::time_point> deadline_;
    Now now_;
    // One byte more than the largest command: enough to see that there is too much.
    std::array<std::uint8_t, max_command + 1> request_{};
    std::array<std::uint8_t, max_command> response_{};
};

}  // namespace vtpm::swtpm_engine
