// EngineSession: the manager's end of one engine's channel. It serves one instance, fixed when the
// channel was made; nothing that comes over the channel can name another.
//
// The peer is assumed to be conquered: it can load and store its own TPM's state, in sequence, and
// nothing else. One request is under way at a time; what comes faster than its Allowance stays in
// its socket, unread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <memory>

#include "allowance.h"
#include "manager.h"
#include "vtpm/base/uuid.h"
#include "vtpm/wire/async_channel.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::manager {

class EngineSession : public std::enable_shared_from_this<EngineSession> {
  public:
    EngineSession(Manager& manager, const Uuid& instance, wire::AsyncChannel::Socket socket);

    void start() { receive(); }
    void close() { channel_->close(); }

  private:
    struct Answer {
        wire::proto::EngineReply message;
        SecretBytes payload;
    };

    void receive();
    void receive_now();
    void on_frame(Result<wire::Frame> frame);
    void reply(Result<Answer> answered);
    Result<Answer> answer(const wire::proto::EngineRequest& request);
    Result<Answer> load();
    SecretBytes seed_from_chip();
    void warn(const Error& error);
    Result<void> commit(const wire::proto::Commit& commit, ByteView payload);

    Manager& manager_;
    Uuid instance_;
    bool loaded_ = false;
    std::shared_ptr<Allowance> allowance_;
    std::shared_ptr<wire::AsyncChannel> channel_;
    boost::asio::steady_timer pause_;
};

}  // namespace vtpm::manager
