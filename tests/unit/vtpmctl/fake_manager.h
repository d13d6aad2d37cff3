// A vtpmmgrd that answers as a test says, and remembers what it was asked.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "manager_connection.h"
#include "scratch.h"
#include "vtpm/wire/failure.h"

namespace vtpm::tests {

class FakeManager {
  public:
    using Answering = std::function<wire::proto::Reply(const wire::proto::Request&)>;

    explicit FakeManager(Answering answering) : answering_(std::move(answering)) {
        const std::string path = scratch_.file("socket");
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::copy(path.begin(), path.end(), std::begin(address.sun_path));
        listening_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (::bind(listening_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
            ::listen(listening_.get(), 1) != 0) {
            throw std::runtime_error("cannot listen on " + path);
        }
        thread_ = std::thread([this] { serve(); });
        connection_.emplace(control::ManagerConnection::open(path).value());
    }
    ~FakeManager() { end(); }

    control::ManagerConnection& connection() { return *connection_; }

    // Ends the conversation; all that was asked.
    const std::vector<wire::proto::Request>& asked() {
        end();
        return asked_;
    }

    SecretBytes payload;  // goes with every answer
    SecretBytes given;    // with the request that is answered, or was last

  private:
    void serve() {
        wire::Channel channel(Fd(::accept(listening_.get(), nullptr, nullptr)));
        for (;;) {
            const auto frame = channel.receive(std::chrono::seconds(20));
            if (!frame)
                return;
            given = frame->payload.clone();
            asked_.push_back(wire::parse<wire::proto::Request>(*frame).value());
            if (!channel.send(answering_(asked_.back()), payload.view()))
                return;
        }
    }
    void end() {
        connection_.reset();
        if (thread_.joinable())
            thread_.join();
    }

    Scratch scratch_;
    Answering answering_;
    Fd listening_;
    std::thread thread_;
    std::vector<wire::proto::Request> asked_;
    std::optional<control::ManagerConnection> connection_;
};

inline wire::proto::Reply refusal(Errc code, const std::string& why) {
    wire::proto::Reply reply;
    *reply.mutable_failure() = wire::to_message(Error{code, usual_next_action(code), why});
    return reply;
}

}  // namespace vtpm::tests
