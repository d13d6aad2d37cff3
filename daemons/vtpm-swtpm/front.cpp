#include "front.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "listener.h"
#include "vtpm/base/log.h"

namespace vtpm::swtpm {
namespace {

// QEMU waits in its resume for as long as the other one may need to let go.
constexpr std::chrono::milliseconds unpark_patience{3000};

Result<Fd> termination_signals() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigaddset(&set, SIGINT);
    ::sigaddset(&set, SIGHUP);
    Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd.valid())
        return fail_errno("signalfd", errno);
    return fd;
}

}  // namespace

Result<void> Front::begin() {
    if (sockets_.control_peer.valid())
        control_.emplace(std::move(sockets_.control_peer));
    if (sockets_.data_peer.valid() &&
        tpm_.set_data(std::move(sockets_.data_peer)) != result::success)
        return fail(Errc::invalid_argument, "the data channel's descriptor is of no use");
    return {};
}

Result<void> Front::run() {
    VTPM_TRY(signals_, termination_signals());
    ::sd_notify(0, "READY=1");
    while (!ended_)
        VTPM_CHECK(wait());
    ::sd_notify(0, "STOPPING=1");
    tpm_.finish();
    return {};
}

Result<void> Front::wait() {
    const auto before = Clock::now();
    const int control_listener = control_ ? -1 : sockets_.control_listener.get();
    const int data_listener = tpm_.has_data() ? -1 : sockets_.data_listener.get();
    std::array<pollfd, 8> wanted = {
        pollfd{signals_.get(), POLLIN, 0},      pollfd{control_ ? control_->fd() : -1, POLLIN, 0},
        pollfd{control_listener, POLLIN, 0},    pollfd{data_listener, POLLIN, 0},
        pollfd{tpm_.engine_fd(), POLLIN, 0},    pollfd{tpm_.manager_fd(), POLLIN, 0},
        pollfd{tpm_.log_fd(before), POLLIN, 0}, pollfd{tpm_.parked_data_fd(), POLLIN, 0}};
    if (::poll(wanted.data(), wanted.size(), milliseconds_to_wait(before)) < 0)
        return errno == EINTR ? Result<void>() : fail_errno("poll", errno);
    const auto now = Clock::now();
    const auto ready = [&](std::size_t i) { return wanted[i].revents != 0; };
    if (ready(0)) {
        ended_ = true;
        return {};
    }
    tpm_.on_log(now);
    if (ready(4))
        tpm_.on_engine();
    if (ready(5))
        tpm_.on_manager();
    tpm_.tick(now);
    if (ready(7) && tpm_.parked_data_fd() >= 0)
        tpm_.on_parked_data(unpark_patience);
    if (ready(1))
        on_control(now);
    else if (control_ && control_->deadline() && now >= *control_->deadline())
        control_ended();
    if (ready(2)) {
        if (Fd peer = accept_from(sockets_.control_listener.get()); peer.valid())
            control_.emplace(std::move(peer));
    }
    if (ready(3)) {
        if (Fd peer = accept_from(sockets_.data_listener.get()); peer.valid())
            (void)tpm_.set_data(std::move(peer));
    }
    return server_.shut_down() ? after_shutdown() : watch_machine();
}

int Front::milliseconds_to_wait(Clock::time_point now) const {
    std::optional<Clock::time_point> next = tpm_.next_deadline();
    if (control_ && control_->deadline())
        next = std::min(next.value_or(*control_->deadline()), *control_->deadline());
    if (!next)
        return tpm_.log_fd(now) < 0 ? 1000 : -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*next - now).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

void Front::on_control(Clock::time_point now) {
    using Turn = ControlChannel::Turn;
    const auto turn = control_->on_readable(now);
    if (turn == Turn::nothing)
        return;
    if (turn == Turn::closed)
        return control_ended();
    const Request request = control_->request();
    const Bytes answer = turn == Turn::request
                             ? server_.handle(request, control_->take_descriptor())
                             : ControlServer::refuse(request);
    if (request.command == Command::set_datafd)
        is_machine_ = true;
    // What follows such a head is no request, whatever it looks like.
    const bool out_of_step = turn == Turn::malformed && says_its_size(request.command);
    if (!control_->send(answer) || out_of_step)
        control_ended();
}

void Front::control_ended() {
    control_.reset();
    ended_ = ended_ || ends_.with_control;
    if (std::exchange(is_machine_, false)) {
        tpm_.forget_ticket();
        machine_gone_ = true;
    }
}

// A peer that has given a data channel is a machine. Others come and go, as swtpm_ioctl does.
Result<void> Front::watch_machine() {
    const bool has_data = tpm_.has_data();
    if (ends_.with_data && had_data_ && !has_data)
        ended_ = true;
    had_data_ = has_data;
    if (is_machine_)
        machine_gone_ = false;
    if (ended_)  // finish() does what is to be done
        return {};
    if (!machine_gone_ || has_data)
        return {};
    machine_gone_ = false;
    return tpm_.abandon();
}

Result<void> Front::after_shutdown() {
    if (ends_.with_shutdown) {
        ended_ = true;
        return {};
    }
    control_.reset();
    is_machine_ = machine_gone_ = false;
    server_.begin_again();
    return tpm_.begin();
}

}  // namespace vtpm::swtpm
