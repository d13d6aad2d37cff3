#include "manager_client.h"

#include "vtpm/wire/failure.h"

namespace vtpm::doorman {
Result<OpenedInstance> ManagerClient::open(const Uuid& uuid, GuestDevice guest,
                                           wire::Channel::Timeout patience) {
    auto socket = wire::connect_to(socket_path_);
    if (!socket) {
        return fail(socket.error().code, socket.error().next,
                    "vtpmmgrd cannot be reached: " + socket.error().context +
                        "; to start it: systemctl start vtpmmgrd");
    }
    channel_ = std::make_unique<wire::Channel>(std::move(*socket));
    wire::proto::Request request;
    auto& open = *request.mutable_open();
    open.set_uuid(uuid.bytes().data(), Uuid::size);
    open.set_domain(guest.domain);
    open.set_device(guest.device);
    open.set_heir(heir_.view().data(), heir_.size());
    auto reply = ask(request, nullptr, patience);
    if (!reply) {
        close();
        return tl::make_unexpected(std::move(reply).error());
    }
    VTPM_TRY(const auto version, tpm::version_from_number(reply->instance().tpm()));
    return OpenedInstance{reply->instance().name(), version};
}

Result<Fd> ManagerClient::attach_engine() {
    wire::proto::Request request;
    request.mutable_attach_engine();
    Fd descriptor;
    VTPM_TRY(const auto reply, ask(request, &descriptor, answer_time));
    if (!reply.has_attached() || !descriptor.valid()) {
        return fail(Errc::malformed, "vtpmmgrd gave no channel for the engine");
    }
    return descriptor;
}

Result<wire::proto::Reply> ManagerClient::ask(const wire::proto::Request& request, Fd* descriptor,
                                              wire::Channel::Timeout patience) {
    if (!channel_)
        return fail(Errc::unavailable, "not connected to vtpmmgrd");
    wire::proto::Request versioned = request;
    versioned.set_protocol(wire::protocol_version);
    VTPM_CHECK(channel_->send(versioned));
    VTPM_TRY(auto frame, channel_->receive_with_descriptor(patience));
    VTPM_TRY(auto reply, wire::parse<wire::proto::Reply>(frame));
    if (reply.has_failure())
        return tl::unexpected<Error>(wire::to_error(reply.failure()));
    if (descriptor != nullptr)
        *descriptor = std::move(frame.descriptor);
    return reply;
}

}  // namespace vtpm::doorman
