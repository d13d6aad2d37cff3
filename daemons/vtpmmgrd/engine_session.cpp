#include "engine_session.h"

#include <poll.h>

#include <algorithm>

#include "translate.h"
#include "vtpm/base/log.h"
#include "vtpm/wire/failure.h"

namespace vtpm::manager {
namespace {

constexpr std::size_t seed_size = 32;
constexpr std::chrono::seconds seed_interval{10};
constexpr std::chrono::milliseconds look_interval{500};
constexpr std::size_t max_state = 2 * vault::Vault::max_blob_size;
constexpr int max_blobs = 3;  // one a kind
// What commits may bring together, one load must be able to give back.
static_assert(max_blobs * vault::Vault::max_blob_size + seed_size <= wire::max_payload_size);
// Of a request: a sequence, and three blobs' kinds and sizes.
constexpr wire::FrameSizes request_limits{1024, max_state};

Result<vault::BlobKind> kind_from_number(std::uint32_t number) {
    using vault::BlobKind;
    for (const auto kind : {BlobKind::permanent, BlobKind::volatile_state, BlobKind::saved}) {
        if (number == static_cast<std::uint32_t>(kind))
            return kind;
    }
    return fail(Errc::malformed, "an engine named an unknown kind of state");
}

Result<std::vector<vault::BlobChange>> changes_of(const wire::proto::Commit& commit,
                                                  ByteView payload) {
    if (commit.blob_size() < 1 || commit.blob_size() > max_blobs) {
        return fail(Errc::malformed, "a commit of no or too many blobs");
    }
    std::vector<vault::BlobChange> changes;
    ByteReader reader(payload);
    for (const auto& blob : commit.blob()) {
        VTPM_TRY(const auto kind, kind_from_number(blob.kind()));
        VTPM_TRY(const auto content, reader.bytes(blob.size()));
        if (blob.erased() != content.empty()) {
            return fail(Errc::malformed, "a blob that is neither stored nor erased");
        }
        changes.push_back({kind, std::nullopt});
        if (!blob.erased())
            changes.back().content = SecretBytes::copy_of(content);
    }
    if (reader.left() != 0)
        return fail(Errc::malformed, "a commit with bytes left over");
    return changes;
}

}  // namespace

EngineSession::EngineSession(Manager& manager, const Uuid& instance,
                             wire::AsyncChannel::Socket socket)
    : manager_(manager),
      instance_(instance),
      allowance_(manager.holders.allowance(instance)),
      channel_(std::make_shared<wire::AsyncChannel>(std::move(socket), request_limits)),
      pause_(channel_->executor()) {}

// Who has to wait may end meanwhile, and its guest is to have its TPM again at once.
void EngineSession::receive() {
    const auto now = RateBound::Clock::now();
    const auto from = allowance_->next_request();
    if (from <= now)
        return receive_now();
    pollfd peer{channel_->fd(), 0, 0};
    if (peer.fd < 0 || (::poll(&peer, 1, 0) > 0 && (peer.revents & POLLHUP) != 0))
        return manager_.holders.engine_gone(instance_, this);
    pause_.expires_at(std::min(from, now + look_interval));
    pause_.async_wait([self = shared_from_this()](const boost::system::error_code& stopped) {
        if (!stopped)
            self->receive();
    });
}

void EngineSession::receive_now() {
    channel_->receive([self = shared_from_this()](Result<wire::Frame> frame) {
        self->on_frame(std::move(frame));
    });
}

void EngineSession::on_frame(Result<wire::Frame> frame) {
    if (!frame) {
        manager_.holders.engine_gone(instance_, this);
        return;
    }
    allowance_->take_work(frame->message.size() + frame->payload.size());
    const auto request = wire::parse<wire::proto::EngineRequest>(*frame);
    if (!request)
        return reply(tl::make_unexpected(request.error()));
    if (!request->has_commit())
        return reply(answer(*request));
    if (auto refused = commit(request->commit(), frame->payload.view()); !refused)
        reply(tl::make_unexpected(std::move(refused).error()));
}

void EngineSession::reply(Result<Answer> answered) {
    if (!answered) {
        const Error error = answered.error();
        warn(error);
        answered = Answer{};
        *answered->message.mutable_failure() = wire::to_message(error);
    }
    channel_->send(answered->message, std::move(answered->payload), Fd(),
                   [self = shared_from_this()](const Result<void>& sent) {
                       if (sent) {
                           self->receive();
                           // The guest has its answer, or will have it while the chip works.
                           return commit_due(self->manager_);
                       }
                       self->manager_.holders.engine_gone(self->instance_, self.get());
                   });
}

// Others' lines must not be lost in what one engine can make us say.
void EngineSession::warn(const Error& error) {
    const auto now = RateBound::Clock::now();
    if (!allowance_->words.allows(now)) {
        ++allowance_->unsaid;
        return;
    }
    allowance_->words.take(now);
    const auto unsaid = std::exchange(allowance_->unsaid, 0);
    spdlog::warn("instance {}: its engine's request failed ({}): {}{}", instance_.to_string(),
                 to_string(error.code), error.context,
                 unsaid == 0 ? "" : "; and " + std::to_string(unsaid) + " more before it");
}

Result<EngineSession::Answer> EngineSession::answer(const wire::proto::EngineRequest& request) {
    if (!request.has_load())
        return fail(Errc::malformed, "an engine's request of no known kind");
    return load();
}

// More entropy is better, but a chip that is away is no reason to keep a guest from starting: the
// engine's own generator is seeded by the kernel.
SecretBytes EngineSession::seed_from_chip() {
    const auto now = std::chrono::steady_clock::now();
    if (now < manager_.next_seed || !allowance_->seeds.allows(now))
        return {};
    allowance_->seeds.take(now);
    manager_.next_seed = now + seed_interval;
    auto seed = manager_.chip.random(seed_size);
    if (seed)
        return std::move(*seed);
    spdlog::warn("no random numbers from the chip: {}", seed.error().context);
    return {};
}

Result<EngineSession::Answer> EngineSession::load() {
    if (std::exchange(loaded_, true))
        return fail(Errc::invalid_argument, "state is loaded once");
    manager_.commits.run();  // of the engine before, which may be gone without an answer
    VTPM_TRY(const auto state, manager_.vault.load(instance_));
    VTPM_TRY(const auto instance, manager_.vault.get(instance_));
    VTPM_TRY(const auto policy, policy_of(instance));
    const SecretBytes seed = seed_from_chip();
    Answer answer;
    auto& loaded = *answer.message.mutable_loaded();
    loaded.set_sequence(state.sequence);
    *loaded.mutable_policy() = policy;
    loaded.set_seed(static_cast<std::uint32_t>(seed.size()));
    std::size_t size = seed.size();
    for (const auto& [kind, content] : state.blobs) {
        auto& blob = *loaded.add_blob();
        blob.set_kind(static_cast<std::uint32_t>(kind));
        blob.set_size(content.size());
        size += content.size();
    }
    answer.payload = SecretBytes(size);
    auto* out = answer.payload.span().data();
    for (const auto& [kind, content] : state.blobs) {
        out = std::copy(content.view().begin(), content.view().end(), out);
    }
    std::copy(seed.view().begin(), seed.view().end(), out);
    return answer;
}

Result<void> EngineSession::commit(const wire::proto::Commit& commit, ByteView payload) {
    VTPM_TRY(auto changes, changes_of(commit, payload));
    // Taken or not: the chip may have been asked.
    if (const auto instance = manager_.vault.get(instance_); instance && instance->sync)
        allowance_->proofs.take(Allowance::Clock::now());
    manager_.commits.add(channel_->executor(), instance_, commit.sequence(), std::move(changes),
                         [self = shared_from_this()](const Result<std::uint64_t>& sequence) {
                             if (!sequence)
                                 return self->reply(tl::make_unexpected(sequence.error()));
                             Answer answer;
                             answer.message.mutable_committed()->set_sequence(*sequence);
                             self->reply(std::move(answer));
                         });
    return {};
}

}  // namespace vtpm::manager
