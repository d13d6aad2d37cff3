#include "manager_connection.h"

#include <iostream>

#include "caller.h"
#include "vtpm/wire/failure.h"

namespace vtpm::control {
namespace {

// The chip may be busy for seconds, and one request makes it do several things in a row; new keys
// are sealed anew for each group.
constexpr std::chrono::seconds answer_time{60};
constexpr std::chrono::minutes renewal_time{30};

std::chrono::seconds patience(const wire::proto::Request& request) {
    const bool renews = request.has_setup() || request.has_rotate() || request.has_set_approver() ||
                        request.has_revoke() || request.has_recover() || request.has_unlock();
    return renews ? renewal_time : answer_time;
}

// "Unavailable" in an answer is said of the chip: the manager itself has just answered.
Error seen_from_here(const wire::proto::Failure& failure) {
    Error error = wire::to_error(failure);
    if (error.code == Errc::unavailable)
        error.code = Errc::chip;
    return error;
}

}  // namespace

ManagerConnection::ManagerConnection(Fd socket)
    : channel_(std::move(socket)), caller_(caller_name()) {}

Result<ManagerConnection> ManagerConnection::open(const std::string& socket_path) {
    VTPM_TRY(auto socket, wire::connect_to(socket_path));
    return ManagerConnection(std::move(socket));
}

Result<Answer> ManagerConnection::ask(wire::proto::Request request, ByteView payload) {
    request.set_protocol(wire::protocol_version);
    request.set_caller(caller_);
    VTPM_CHECK(channel_.send(request, payload));
    VTPM_TRY(auto frame, channel_.receive_with_descriptor(patience(request)));
    VTPM_TRY(auto reply, wire::parse<wire::proto::Reply>(frame));
    if (reply.has_failure())
        return tl::unexpected<Error>(seen_from_here(reply.failure()));
    if (!reply.warning().empty())
        std::cerr << "vtpmctl: warning: " << reply.warning() << "\n";
    return Answer{std::move(reply), std::move(frame.payload), std::move(frame.descriptor)};
}

}  // namespace vtpm::control
