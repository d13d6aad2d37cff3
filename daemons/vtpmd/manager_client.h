// ManagerClient: vtpmd's connection to vtpmmgrd, which is at the same time its hold on the
// instance. One thread; waits for each answer.
#pragma once

#include <memory>
#include <string>

#include "guest_device.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/base/uuid.h"
#include "vtpm/tpm/version.h"
#include "vtpm/wire/channel.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::doorman {

struct OpenedInstance {
    std::string name;
    tpm::Version tpm;
};

class ManagerClient {
  public:
    // `heir`: what proves that we are the next vtpmd of the same device; see Open in
    // messages.proto.
    ManagerClient(std::string socket_path, SecretBytes heir)
        : socket_path_(std::move(socket_path)), heir_(std::move(heir)) {}

    // Connects and becomes the holder of `uuid`. Errc::in_use while another guest holds it,
    // unavailable if vtpmmgrd does not answer, and whatever vtpmmgrd refuses it for.
    Result<OpenedInstance> open(const Uuid& uuid, GuestDevice guest,
                                wire::Channel::Timeout patience = answer_time);
    // A channel for one engine, bound to the instance.
    Result<Fd> attach_engine();
    // What vtpmmgrd shows to people (vtpmctl show); goes with whatever is asked from here on.
    void tells(const wire::proto::Power& power) { power_ = power; }
    // The same, now. False: the connection is lost. A vtpmmgrd of an older version, which does not
    // take it, is as good as any.
    bool tell(const wire::proto::Power& power);
    // Gives the hold up.
    void close() { channel_.reset(); }

    int fd() const { return channel_ ? channel_->fd() : -1; }  // readable only when it is lost

    // libxl gives up on us after 10 s; what takes longer than this is refused before that.
    static constexpr std::chrono::seconds answer_time{7};

  private:
    Result<wire::Frame> exchange(const wire::proto::Request& request,
                                 wire::Channel::Timeout patience);
    Result<wire::proto::Reply> ask(const wire::proto::Request& request, Fd* descriptor,
                                   wire::Channel::Timeout patience);

    std::string socket_path_;
    SecretBytes heir_;
    wire::proto::Power power_;
    std::unique_ptr<wire::Channel> channel_;
};

}  // namespace vtpm::doorman
