#include "state_client.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vtpm/wire/failure.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::engine_program {
namespace {

Result<wire::proto::EngineReply> reply_in(const wire::Frame& frame) {
    VTPM_TRY(auto reply, wire::parse<wire::proto::EngineReply>(frame));
    if (reply.has_failure())
        return tl::unexpected<Error>(wire::to_error(reply.failure()));
    return reply;
}

Result<engine::StateKind> kind_from_number(std::uint32_t number) {
    using engine::StateKind;
    for (const auto kind : {StateKind::permanent, StateKind::volatile_state, StateKind::saved}) {
        if (number == static_cast<std::uint32_t>(kind))
            return kind;
    }
    return fail(Errc::malformed, "vtpmmgrd sent an unknown kind of state");
}

tpm::CommandPolicy policy_in(const wire::proto::CommandPolicy& message) {
    tpm::CommandPolicy policy;
    policy.denied.assign(message.denied().begin(), message.denied().end());
    // Of one that names no locality there is, none is allowed: it is not ours to guess.
    if (message.localities() != 0)
        policy.localities = static_cast<std::uint8_t>(message.localities() &
                                                      tpm::CommandPolicy::possible_localities);
    policy.vendor = message.vendor();
    policy.maintenance = message.maintenance();
    return policy;
}

}  // namespace

Result<LoadedState> StateClient::load() {
    auto loaded = load_here();
    while (!loaded && loaded.error().code != Errc::timeout && replace_channel())
        loaded = load_here();
    return loaded;
}

bool StateClient::replace_channel() {
    if (!channel_.broken() || !replacement_)
        return false;
    auto socket = replacement_();
    if (socket)
        go_on_with(std::move(*socket));
    return socket.has_value();
}

void StateClient::go_on_with(Fd socket) {
    channel_ = wire::Channel(std::move(socket));
    asked_ = false;
}

Result<LoadedState> StateClient::load_here() {
    wire::proto::EngineRequest request;
    request.mutable_load();
    VTPM_CHECK(channel_.send(request));
    VTPM_TRY(const auto frame, channel_.receive(longest_patience));
    VTPM_TRY(const auto reply, reply_in(frame));
    if (!reply.has_loaded())
        return fail(Errc::malformed, "vtpmmgrd sent no state");
    LoadedState state;
    ByteReader reader(frame.payload.view());
    for (const auto& blob : reply.loaded().blob()) {
        VTPM_TRY(const auto kind, kind_from_number(blob.kind()));
        VTPM_TRY(const auto content, reader.bytes(blob.size()));
        state.blobs.push_back({kind, SecretBytes::copy_of(content)});
    }
    VTPM_TRY(const auto seed, reader.bytes(reply.loaded().seed()));
    state.seed = SecretBytes::copy_of(seed);
    const auto& policy = reply.loaded().policy();
    state.policy = policy_in(policy);
    VTPM_TRY(state.banks,
             tpm::pcr_banks_of(std::vector(policy.bank().begin(), policy.bank().end())));
    if (reader.left() != 0)
        return fail(Errc::malformed, "vtpmmgrd sent bytes left over");
    state.sequence = sequence_ = reply.loaded().sequence();
    // Sequence and content say the same thing twice; if they disagree, nothing may be manufactured.
    const bool has_permanent =
        std::any_of(state.blobs.begin(), state.blobs.end(),
                    [](const auto& b) { return b.kind == engine::StateKind::permanent; });
    if (has_permanent != (state.sequence > 0)) {
        return fail(Errc::corrupt, "the instance's state is incomplete");
    }
    return state;
}

Result<void> StateClient::commit(std::vector<engine::StateBlob> changes, Patience patience) {
    remember(std::move(changes));
    auto sent = send_owed(std::chrono::steady_clock::now() + patience);
    while (!sent && replace_channel())
        sent = send_owed(std::chrono::steady_clock::now() + patience);
    return sent;
}

Result<void> StateClient::attach(Fd socket, Patience patience) {
    go_on_with(std::move(socket));
    return send_owed(std::chrono::steady_clock::now() + patience);
}

void StateClient::owe(engine::StateBlob change) {
    std::vector<engine::StateBlob> changes;
    changes.push_back(std::move(change));
    remember(std::move(changes));
}

void StateClient::remember(std::vector<engine::StateBlob> changes) {
    for (auto& change : changes) {
        const auto same = [&](const auto& p) { return p.kind == change.kind; };
        pending_.erase(std::remove_if(pending_.begin(), pending_.end(), same), pending_.end());
        pending_.push_back(std::move(change));
    }
}

Result<void> StateClient::send_owed(Deadline end) {
    if (!unanswered_.empty())
        VTPM_CHECK(send_unanswered(end));
    if (pending_.empty())
        return {};
    unanswered_ = std::exchange(pending_, {});
    return send_unanswered(end);
}

// It stays as it is while there is no answer, or one that may become another. One that was refused
// for good may be joined by later changes.
Result<void> StateClient::send_unanswered(Deadline end) {
    if (!asked_) {
        VTPM_CHECK(ask());
        asked_ = true;
    }
    VTPM_TRY(const auto frame, answer(end));
    asked_ = false;
    const auto reply = reply_in(frame);
    if (!reply) {
        const auto next = reply.error().next;
        if (next == NextAction::retry || next == NextAction::retry_later)
            return tl::make_unexpected(reply.error());
        auto newer = std::exchange(pending_, {});
        pending_ = std::exchange(unanswered_, {});
        remember(std::move(newer));
        return tl::make_unexpected(reply.error());
    }
    if (reply->committed().sequence() != sequence_ + 1) {
        return fail(Errc::out_of_order, "vtpmmgrd acknowledged another write");
    }
    sequence_ = reply->committed().sequence();
    unanswered_.clear();
    return {};
}

Result<void> StateClient::ask() {
    wire::proto::EngineRequest request;
    auto& commit = *request.mutable_commit();
    commit.set_sequence(sequence_);
    std::size_t total = 0;
    for (const auto& change : unanswered_) {
        auto& blob = *commit.add_blob();
        blob.set_kind(static_cast<std::uint32_t>(change.kind));
        blob.set_erased(!change.content);
        blob.set_size(change.content ? change.content->size() : 0);
        total += change.content ? change.content->size() : 0;
    }
    SecretBytes payload(total);
    auto* out = payload.span().data();
    for (const auto& change : unanswered_) {
        if (!change.content)
            continue;
        const auto content = change.content->view();
        out = std::copy(content.begin(), content.end(), out);
    }
    return channel_.send(request, payload.view());
}

// A receive that ran into its time-out would leave the channel at an unknown place.
Result<wire::Frame> StateClient::answer(Deadline end) {
    pollfd wanted{channel_.fd(), POLLIN, 0};
    for (;;) {
        const auto left = std::chrono::ceil<Patience>(end - std::chrono::steady_clock::now());
        const auto milliseconds = static_cast<int>(std::max<Patience::rep>(left.count(), 0));
        const int ready = ::poll(&wanted, 1, milliseconds);
        if (ready > 0)
            return channel_.receive(longest_patience);
        if (ready == 0)
            return fail(Errc::timeout, NextAction::retry, "vtpmmgrd has not answered yet");
        if (errno != EINTR)
            return fail_errno("poll", errno);
    }
}

}  // namespace vtpm::engine_program
