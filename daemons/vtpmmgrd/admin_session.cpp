#include "admin_session.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>

#include "engine_session.h"
#include "key_keeper.h"
#include "translate.h"
#include "version.h"
#include "vtpm/base/log.h"
#include "vtpm/wire/failure.h"

namespace vtpm::manager {
namespace {

constexpr std::size_t page_size = 500;

// What somebody calls himself, fit for a journal.
std::string printable(const std::string& text) {
    std::string out;
    for (const char c : text.substr(0, 64))
        out.push_back(c > ' ' && c < 0x7f ? c : '_');
    return out;
}

}  // namespace

AdminSession::AdminSession(Manager& manager, wire::AsyncChannel::Socket socket)
    : manager_(manager), executor_(socket.get_executor()) {
    channel_ = std::make_shared<wire::AsyncChannel>(std::move(socket));
}

void AdminSession::receive() {
    channel_->receive([self = shared_from_this()](Result<wire::Frame> frame) {
        self->on_frame(std::move(frame));
    });
}

void AdminSession::on_frame(Result<wire::Frame> frame) {
    if (!frame)
        return end();
    if (manager_.occupied) {
        if (auto at_once = answer_meanwhile(*frame))
            return reply(std::move(*at_once));
        return answer_later(std::move(*frame));
    }
    manager_.occupied = true;
    auto answered = answer(*frame);
    manager_.occupied = false;
    for (auto& late : std::exchange(manager_.waiting, {}))
        boost::asio::post(executor_, std::move(late));
    reply(std::move(answered));
}

// Another request lets engines in while it waits for the chip. Without the vault no more can be
// done than to give a guest that is known another engine; who opens an instance does not wait, for
// he asks again by himself.
std::optional<Result<AdminSession::Answer>> AdminSession::answer_meanwhile(
    const wire::Frame& frame) {
    const auto request = request_in(frame);
    if (!request)
        return tl::make_unexpected(request.error());
    if (request->has_attach_engine())
        return attach_engine(request->attach_engine());
    if (request->has_tell_power())
        return tell_power(request->tell_power());
    if (request->has_open())
        return fail(Errc::locked, NextAction::retry_later, "the vault's keys are being renewed");
    if (manager_.waiting.size() >= Manager::max_waiting)
        return fail(Errc::too_large, NextAction::retry_later,
                    "too many requests wait for the vault's keys, which are being renewed");
    return std::nullopt;
}

// If anybody still waits for it then: a command that was given up must not be carried out.
void AdminSession::answer_later(wire::Frame frame) {
    manager_.waiting.emplace_back(
        [self = shared_from_this(), late = std::make_shared<wire::Frame>(std::move(frame))] {
            char next = 0;
            if (::recv(self->channel_->fd(), &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
                return self->end();
            self->on_frame(std::move(*late));
        });
}

void AdminSession::reply(Result<Answer> answered) {
    if (!answered) {
        const Error error = answered.error();
        answered = Answer{};
        *answered->message.mutable_failure() = wire::to_message(error);
    }
    channel_->send(answered->message, std::move(answered->payload), std::move(answered->descriptor),
                   [self = shared_from_this()](const Result<void>& sent) {
                       if (!sent)
                           return self->end();
                       self->receive();
                   });
}

void AdminSession::end() {
    if (!held_)
        return;
    manager_.holders.release(*held_);
    if (const auto instance = manager_.vault.get(*held_);
        instance && !manager_.holders.holder(*held_))
        manager_.stories.released(*held_, instance->sequence);
    spdlog::info("instance {}: its vtpmd has disconnected", held_->to_string());
    held_.reset();
}

Result<wire::proto::Request> AdminSession::request_in(const wire::Frame& frame) {
    VTPM_TRY(auto request, wire::parse<wire::proto::Request>(frame));
    if (request.protocol() != wire::protocol_version) {
        return fail(Errc::unsupported,
                    "the other side speaks protocol " + std::to_string(request.protocol()) +
                        ", this vtpmmgrd speaks " + std::to_string(wire::protocol_version) +
                        ": restart what was not restarted after the upgrade");
    }
    return request;
}

Result<AdminSession::Answer> AdminSession::answer(const wire::Frame& frame) {
    using Request = wire::proto::Request;
    VTPM_TRY(const auto request, request_in(frame));
    look_again(manager_);
    manager_.vault.act_for(request.caller().empty() ? "root"
                                                    : "root (" + printable(request.caller()) + ")");
    switch (request.body_case()) {
        case Request::kSetup:
            return setup(request.setup());
        case Request::kCreate:
            return create(request.create(), std::nullopt);
        case Request::kCreateWithState:
            return create(request.create_with_state(), frame.payload.clone());
        case Request::kList:
            return list(request.list());
        case Request::kShow:
            return show(request.show());
        case Request::kRename:
            return rename(request.rename());
        case Request::kRemove:
            return remove(request.remove());
        case Request::kStatus:
            return status();
        case Request::kRecover:
            return recover(frame.payload);
        case Request::kOpen:
            return open(request.open());
        case Request::kAttachEngine:
            return attach_engine(request.attach_engine());
        case Request::kTellPower:
            return tell_power(request.tell_power());
        default:
            return answer_administration(request, frame.payload);
    }
}

Result<AdminSession::Answer> AdminSession::setup(const wire::proto::Setup& request) {
    VTPM_TRY(auto approver, wish_of(request.approver()));
    const vault::SetupWishes wishes{.recovery_public = request.recovery_public(),
                                    .approver = std::move(approver),
                                    .latch = !request.no_latch() && !request.legacy_tpm12(),
                                    .legacy_tpm12 = request.legacy_tpm12(),
                                    .beside_another = request.beside_another()};
    VTPM_TRY(const Uuid manager,
             request.replace() ? manager_.vault.replace_recovery_key(request.recovery_public())
                               : manager_.vault.setup(wishes));
    spdlog::info("set up as manager {}{}", manager.to_string(),
                 request.recovery_public().empty() ? "" : ", with a new recovery key");
    Answer answer;
    keep_keys(answer);
    answer.message.mutable_setup()->set_manager(manager.bytes().data(), Uuid::size);
    return answer;
}

Result<AdminSession::Answer> AdminSession::create(const wire::proto::Create& request,
                                                  std::optional<SecretBytes> state) {
    VTPM_TRY(const auto version, tpm::version_from_number(request.tpm()));
    vault::NewInstance wanted;
    wanted.name = request.name();
    wanted.tpm = static_cast<std::uint8_t>(version);
    wanted.sync = request.sync();
    VTPM_TRY(wanted.policy, policy_of_new(request, state.has_value()));
    VTPM_TRY(const auto group, manager_.vault.find_group(request.group()));
    wanted.group = group.uuid;
    if (state)
        wanted.state.push_back({vault::BlobKind::permanent, std::move(state)});
    if (!request.uuid().empty()) {
        VTPM_TRY(wanted.uuid, Uuid::from_bytes(as_bytes(request.uuid())));
        if (wanted.uuid->is_nil())
            return fail(Errc::invalid_argument, "the nil uuid names nobody");
    }
    VTPM_TRY(const auto made, manager_.vault.create(wanted));
    spdlog::info("instance {} ({}) created, TPM {}{}", made.uuid.to_string(), made.name,
                 tpm::to_string(version),
                 !wanted.state.empty() ? ", with the state of a TPM from elsewhere" : "");
    return describe(made);
}

Result<AdminSession::Answer> AdminSession::list(const wire::proto::List& request) {
    Uuid after;
    if (!request.after().empty()) {
        VTPM_TRY(after, Uuid::from_bytes(as_bytes(request.after())));
    }
    VTPM_TRY(auto all, manager_.vault.list());
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.uuid < b.uuid; });
    auto first = std::upper_bound(all.begin(), all.end(), after,
                                  [](const Uuid& uuid, const auto& i) { return uuid < i.uuid; });
    Answer answer;
    auto& page = *answer.message.mutable_page();
    for (; first != all.end() && page.instance_size() < static_cast<int>(page_size); ++first) {
        describe(*first, *page.add_instance());
    }
    page.set_more(first != all.end());
    return answer;
}

Result<AdminSession::Answer> AdminSession::show(const wire::proto::Select& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    Answer answer = describe(found);
    if (const auto* const story = manager_.stories.find(found.uuid))
        vtpm::manager::describe(*story, found.sequence, answer.message.instance().in_use(),
                                *answer.message.mutable_instance()->mutable_story());
    return answer;
}

Result<AdminSession::Answer> AdminSession::rename(const wire::proto::Rename& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_TRY(const auto renamed, manager_.vault.rename(found.uuid, request.name()));
    spdlog::info("instance {} renamed from {} to {}", found.uuid.to_string(), found.name,
                 renamed.name);
    return describe(renamed);
}

// For the next engine of the instance: one that runs keeps what it was started with.
Result<AdminSession::Answer> AdminSession::set_policy(const wire::proto::SetPolicy& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_TRY(const auto policy, policy_bytes(request.policy()));
    VTPM_TRY(const auto changed, manager_.vault.set_policy(found.uuid, policy));
    spdlog::info("instance {} ({}) has a new command policy", found.uuid.to_string(), found.name);
    return describe(changed);
}

Result<void> AdminSession::not_in_use(const vault::Instance& instance) const {
    const auto guest = manager_.holders.holder(instance.uuid);
    if (!guest)
        return {};
    return fail(Errc::in_use, "instance " + instance.name + " is in use by domain " +
                                  std::to_string(guest->domain) + ": shut that guest down first");
}

Result<AdminSession::Answer> AdminSession::remove(const wire::proto::Select& request) {
    VTPM_TRY(auto found, manager_.vault.find(request.selector()));
    VTPM_CHECK(not_in_use(found));
    VTPM_CHECK(manager_.vault.remove(found.uuid));
    spdlog::info("instance {} ({}) deleted, its key destroyed", found.uuid.to_string(), found.name);
    found.state = vault::InstanceState::deleted;
    return describe(found);
}

Result<AdminSession::Answer> AdminSession::status() {
    try_unlock(manager_);
    Answer answer;
    auto& status = *answer.message.mutable_status();
    vtpm::manager::describe(manager_.vault.status(), status);
    status.set_in_use(manager_.holders.count());
    status.set_version(VTPM_VERSION);
    status.set_tcti(manager_.settings.tcti);
    status.set_auto_create(manager_.settings.auto_create);
    if (const auto generation = manager_.chip.generation(); generation)
        status.set_chip_tpm(*generation == chip::Generation::tpm_1_2 ? "1.2" : "2.0");
    return answer;
}

Result<AdminSession::Answer> AdminSession::recover(const SecretBytes& recovery_key) {
    if (auto done = manager_.vault.recover(recovery_key); !done) {
        spdlog::warn("an operator's recovery was refused ({}): {}", to_string(done.error().code),
                     done.error().context);
        return tl::make_unexpected(std::move(done).error());
    }
    spdlog::warn("vault recovered on an operator's word: what is on the disk counts as the newest");
    return status_with_keys_kept();
}

Result<AdminSession::Answer> AdminSession::unlock(const SecretBytes& recovery_key) {
    VTPM_CHECK(manager_.vault.unlock_with_recovery_key(recovery_key));
    spdlog::warn("vault opened with the recovery key, by an operator");
    return status_with_keys_kept();
}

void AdminSession::keep_keys(Answer& answer) {
    if (const auto kept = manager_.keys.keep(manager_.vault); !kept)
        answer.message.set_warning(
            "it is done, but the keys of now are not with systemd, or the boot latch is not "
            "closed: " +
            kept.error().context);
    else if (const auto reason = manager_.vault.status().reason)
        answer.message.set_warning("it is done, but " + reason->context);
}

Result<AdminSession::Answer> AdminSession::status_with_keys_kept() {
    Answer kept;
    keep_keys(kept);
    VTPM_TRY(Answer answer, status());
    answer.message.set_warning(kept.message.warning());
    return answer;
}

// With auto_create an unknown uuid becomes a new instance; a uuid that was ever deleted does not.
Result<vault::Instance> AdminSession::instance_to_open(const Uuid& uuid) {
    auto found = manager_.vault.get(uuid);
    if (found || found.error().code != Errc::not_found || !manager_.settings.auto_create)
        return found;
    const auto version = manager_.settings.auto_create_tpm;
    vault::NewInstance wanted;
    wanted.name = "auto-" + uuid.to_string().substr(0, 8);
    wanted.tpm = static_cast<std::uint8_t>(version);
    wanted.uuid = uuid;
    auto made = manager_.vault.create(wanted);
    if (made)
        spdlog::info("instance {} created for a guest (auto_create)", uuid.to_string());
    return made;
}

Result<AdminSession::Answer> AdminSession::open(const wire::proto::Open& request) {
    manager_.vault.act_for("vtpmd of domain " + std::to_string(request.domain()));
    if (held_)
        return fail(Errc::invalid_argument, "this connection holds an instance already");
    VTPM_TRY(const auto uuid, Uuid::from_bytes(as_bytes(request.uuid())));
    try_unlock(manager_);
    VTPM_TRY(const auto instance, instance_to_open(uuid));
    if (instance.state == vault::InstanceState::quarantined) {
        return fail(Errc::corrupt, "instance " + instance.name +
                                       " does not verify: restore it from a backup (it is kept as "
                                       "it is)");
    }
    VTPM_CHECK(manager_.vault.check_usable(uuid));
    VTPM_CHECK(manager_.holders.acquire(uuid, {request.domain(), request.device()},
                                        as_bytes(request.heir())));
    held_ = uuid;
    manager_.stories.opened(uuid, {request.domain(), request.device()}, instance.sequence);
    if (request.has_power())
        manager_.stories.told(uuid, instance.sequence, request.power());
    // Not worth refusing a guest for.
    if (const auto noted = manager_.vault.note("open", uuid); !noted)
        spdlog::warn("the journal does not say that {} was opened: {}", uuid.to_string(),
                     noted.error().context);
    spdlog::info("instance {} ({}) opened for domain {}", uuid.to_string(), instance.name,
                 request.domain());
    return describe(instance);
}

Result<AdminSession::Answer> AdminSession::attach_engine(const wire::proto::AttachEngine& request) {
    if (!held_)
        return fail(Errc::invalid_argument, "no instance is open on this connection");
    VTPM_TRY(auto pair, stream_socket_pair());
    wire::AsyncChannel::Socket socket(executor_, boost::asio::local::stream_protocol(),
                                      pair.first.release());
    const auto session = std::make_shared<EngineSession>(manager_, *held_, std::move(socket));
    manager_.holders.set_engine(*held_, session);
    if (const auto instance = manager_.vault.get(*held_); instance && request.has_power())
        manager_.stories.told(*held_, instance->sequence, request.power());
    session->start();
    Answer answer;
    answer.message.mutable_attached();
    answer.descriptor = std::move(pair.second);
    return answer;
}

Result<AdminSession::Answer> AdminSession::tell_power(const wire::proto::TellPower& request) {
    if (!held_)
        return fail(Errc::invalid_argument, "no instance is open on this connection");
    if (const auto instance = manager_.vault.get(*held_))
        manager_.stories.told(*held_, instance->sequence, request.power());
    Answer answer;
    answer.message.mutable_done();
    return answer;
}

AdminSession::Answer AdminSession::describe(const vault::Instance& instance) const {
    Answer answer;
    describe(instance, *answer.message.mutable_instance());
    if (const auto policy = policy_of(instance))
        *answer.message.mutable_instance()->mutable_policy() = *policy;
    return answer;
}

void AdminSession::describe(const vault::Instance& instance, wire::proto::Instance& into) const {
    vtpm::manager::describe(instance, into);
    const auto guest = manager_.holders.holder(instance.uuid);
    into.set_in_use(guest.has_value());
    if (!guest)
        return;
    into.set_domain(guest->domain);
    into.set_device(guest->device);
}

}  // namespace vtpm::manager
