#include "instance_lookup.h"

#include "vtpm/wire/failure.h"

namespace vtpm::swtpm {
namespace {

using wire::proto::Reply;

constexpr std::chrono::seconds answer_time{20};

Result<FoundInstance> ask(const std::string& manager, wire::proto::Request& request) {
    auto socket = wire::connect_to(manager);
    if (!socket) {
        return fail(socket.error().code, socket.error().next,
                    "vtpmmgrd cannot be reached: " + socket.error().context +
                        "; to start it: systemctl start vtpmmgrd");
    }
    wire::Channel channel(std::move(*socket));
    request.set_protocol(wire::protocol_version);
    request.set_caller("vtpm-swtpm");
    VTPM_CHECK(channel.send(request));
    VTPM_TRY(const auto frame, channel.receive(answer_time));
    VTPM_TRY(const auto reply, wire::parse<Reply>(frame));
    if (reply.has_failure())
        return tl::unexpected<Error>(wire::to_error(reply.failure()));
    VTPM_TRY(const auto uuid, Uuid::from_bytes(as_bytes(reply.instance().uuid())));
    VTPM_TRY(const auto version, tpm::version_from_number(reply.instance().tpm()));
    const auto& found = reply.instance();
    return FoundInstance{uuid,           found.name(),  version, found.sequence() != 0,
                         found.in_use(), found.policy()};
}

}  // namespace

Result<FoundInstance> find_instance(const std::string& manager, const std::string& selector) {
    wire::proto::Request request;
    request.mutable_show()->set_selector(selector);
    return ask(manager, request);
}

Result<void> change_policy(const std::string& manager, const Uuid& instance,
                           const wire::proto::CommandPolicy& policy) {
    wire::proto::Request request;
    request.mutable_set_policy()->set_selector(instance.to_string());
    *request.mutable_set_policy()->mutable_policy() = policy;
    VTPM_TRY(const auto changed, ask(manager, request));
    return {};
}

}  // namespace vtpm::swtpm
