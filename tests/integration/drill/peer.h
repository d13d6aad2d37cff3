// The conqueror's end of one of the engine's two channels: frames as they should be, and as they
// should not.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <chrono>

#include "vtpm/wire/channel.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::drill {

using namespace std::chrono_literals;

// Of a failure the code; of an answer "ESCAPED, " and what it is.
inline std::string verdict(const Result<wire::Frame>& frame) {
    if (!frame)
        return "refused, the channel is closed";
    const auto reply = wire::parse<wire::proto::EngineReply>(*frame);
    if (!reply)
        return "ESCAPED, an answer that is none";
    if (reply->has_failure())
        return "refused, " + reply->failure().code();
    if (reply->has_committed())
        return "ESCAPED, it was stored";
    return "ESCAPED, it was answered";
}

inline wire::proto::EngineRequest commit_of(std::uint64_t sequence, std::size_t size) {
    wire::proto::EngineRequest request;
    request.mutable_commit()->set_sequence(sequence);
    auto& blob = *request.mutable_commit()->add_blob();
    blob.set_kind(1);
    blob.set_size(size);
    return request;
}

// Whether the other side has closed, or not yet.
inline bool closed_within(int fd, std::chrono::milliseconds time) {
    pollfd one{fd, POLLRDHUP, 0};
    return ::poll(&one, 1, static_cast<int>(time.count())) > 0;
}

}  // namespace vtpm::drill
