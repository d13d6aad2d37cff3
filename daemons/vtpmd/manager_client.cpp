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
    *open.mutable_power() = power_;
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
    *request.mutable_attach_engine()->mutable_power() = power_;
    Fd descriptor;
    VTPM_TRY(const auto reply, ask(request, &descriptor, answer_time));
    if (!reply.has_attached() || !descriptor.valid()) {
        return fail(Errc::malformed, "vtpmmgrd gave no channel for the engine");
    }
    return descriptor;
}

bool ManagerClient::tell(const wire::proto::Power& power) {
    tells(power);
    wire::proto::Request request;
    *request.mutable_tell_power()->mutable_power() = power_;
    return exchange(request, answer_time).has_value();
}

Result<wire::Frame> ManagerClient::exchange(const wire::proto::Request& request,
                                            wire::Channel::Timeout patience) {
    if (!channel_)
        return fail(Errc::unavailable, "not connected to vtpmmgrd");
    wire::proto::Request versioned = request;
    versioned.set_protocol(wire::protocol_version);
    VTPM_CHECK(channel_->send(versioned));
    return channel_->receive_with_descriptor(patience);
}

Result<wire::proto::Reply> ManagerClient::ask(const wire::proto::Request& request, Fd* descriptor,
                                              wire::Channel::Timeout patience) {
    VTPM_TRY(auto frame, exchange(request, patience));
    VTPM_TRY(auto reply, wire::parse<wire::proto::Reply>(frame));
    if (reply.has_failure())
        return tl::unexpected<Error>(wire::to_error(reply.failure()));
    if (descriptor != nullptr)
        *descriptor = std::move(frame.descriptor);
    return reply;
}

}  // namespace vtpm::doorman
