// ManagerConnection: asks vtpmmgrd and waits for the answer. One thread.
#pragma once

#include <memory>
#include <string>

#include "vtpm/base/secret_bytes.h"
#include "vtpm/wire/channel.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::control {

struct Answer {
    wire::proto::Reply message;
    SecretBytes payload;
    Fd descriptor;  // if one came along
};

class ManagerConnection {
  public:
    static Result<ManagerConnection> open(const std::string& socket_path);

    Result<Answer> ask(wire::proto::Request request, ByteView payload = {});

  private:
    explicit ManagerConnection(Fd socket);

    wire::Channel channel_;
    std::string caller_;  // for the journal
};

}  // namespace vtpm::control
