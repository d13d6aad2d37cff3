#include "socket_tpm.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "control_message.h"
#include "vtpm/base/log.h"

namespace vtpm::swtpm {
namespace {

using std::chrono::milliseconds;
using wire::proto::Order;

// What a peer hands over may be anything: of a file, or of another kind of socket, nobody knows how
// long one waits in it.
Result<void> check_stream(int fd) {
    const auto option = [fd](int name) {
        int value = -1;
        socklen_t size = sizeof(value);
        return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
    };
    if (option(SO_DOMAIN) != AF_UNIX || option(SO_TYPE) != SOCK_STREAM)
        return fail(Errc::invalid_argument, "not a stream socket of this host");
    return {};
}

// The flag belongs to the peer's descriptor as well, which may clear it: then a time has to do.
Result<void> make_non_blocking(int fd) {
    const timeval longest{1, 0};
    for (const int name : {SO_RCVTIMEO, SO_SNDTIMEO}) {
        if (::setsockopt(fd, SOL_SOCKET, name, &longest, sizeof(longest)) != 0)
            return fail_errno("the data channel", errno);
    }
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return fail_errno("the data channel", errno);
    return {};
}

}  // namespace

SocketTpm::SocketTpm(FoundInstance instance, doorman::ManagerClient& manager, SeatNumber seat,
                     std::string engine_program)
    : instance_(std::move(instance)),
      manager_(manager),
      seat_(std::move(seat)),
      engine_program_(std::move(engine_program)),
      log_("the engine of " + instance_.name) {}

std::string SocketTpm::who() const {
    return "instance " + instance_.uuid.to_string() + " (" + instance_.name + ")";
}

std::uint32_t SocketTpm::failed(const char* what, const Error& error) {
    spdlog::error("{}: {}: {}", who(), what, log::printable(error.context));
    return result::fail;
}

// Without power, and with what the guest's machine has set; it hears no command yet.
Result<void> SocketTpm::fresh_engine() {
    drop_engine();
    power_ = Power::off;
    VTPM_TRY(auto log, log_.open());
    VTPM_TRY(engine_, SocketEngine::start(engine_program_, instance_.tpm,
                                          seat_.guest().engine_uid(), std::move(log)));
    engine_->on_idle([this] { look_after_manager(); });
    Order order;
    order.mutable_set_locality()->set_locality(locality_);
    if (const auto set = engine_->ask(order); !set) {
        drop_engine();  // and tells its last words
        return tl::make_unexpected(set.error());
    }
    return {};
}

Result<void> SocketTpm::give_data() {
    return data_.valid() ? engine_->give_data(data_.get()) : Result<void>();
}

Result<void> SocketTpm::go_dark() {
    VTPM_CHECK(fresh_engine());
    return give_data();
}

void SocketTpm::drop_engine() {
    engine_.reset();
    log_.finish(Clock::now());
}

std::uint32_t SocketTpm::init(bool gives_startup) {
    label_refused_ = false;
    if (power_ != Power::off) {
        if (const auto stopped = stop(); stopped != result::success)
            return stopped;
    }
    const auto label = resume_;
    const auto begin = Clock::now();
    if (const auto on = power_on(label, init_patience, gives_startup); !on) {
        const auto result = failed("the TPM could not be started", on.error());
        if (label_refused_)
            resume_.reset();
        if (const auto again = go_dark(); !again)
            return failed("and no other engine", again.error());
        return result;
    }
    spdlog::info("{}: TPM {} {} in {} ms", who(), tpm::to_string(instance_.tpm),
                 label ? "goes on" : "started",
                 std::chrono::duration_cast<milliseconds>(Clock::now() - begin).count());
    resumed_as_ = std::exchange(resume_, std::nullopt);
    return result::success;
}

Result<void> SocketTpm::power_on(std::optional<std::uint64_t> label, milliseconds patience,
                                 bool gives_startup) {
    VTPM_CHECK(hold(patience));
    auto channel = manager_.attach_engine();
    if (!channel) {  // the manager may have been restarted since: its new self does not know us
        manager_.close();
        VTPM_CHECK(hold(patience));
        channel = manager_.attach_engine();
    }
    if (!channel)
        return tl::make_unexpected(channel.error());
    const bool dark = engine_ != nullptr;
    if (!dark)
        VTPM_CHECK(fresh_engine());
    VTPM_CHECK(engine_->give_manager(std::move(*channel)));
    wire::proto::PowerOn order;
    order.set_tpm(static_cast<std::uint32_t>(instance_.tpm));
    order.set_has_firmware(!gives_startup);
    order.set_buffer_size(buffer_size_);
    order.set_resume(label.has_value());
    order.set_life(label.value_or(0));
    // Not after a reset: firmware waits 2 s for its Startup then, and did not wait for anything
    // before.
    order.set_early(instance_.tpm == tpm::Version::v1_2 && !std::exchange(had_power_, true) &&
                    !gives_startup);
    if (const auto on = engine_->power_on(order); !on) {
        label_refused_ =
            label && (on.error().code == Errc::not_found || on.error().code == Errc::out_of_order);
        return on;
    }
    power_ = Power::on;
    // A command that waits must not find a TPM without power.
    return dark ? Result<void>() : give_data();
}

// However the engine took it, its power is gone.
std::uint32_t SocketTpm::stop() {
    keep_as_.reset();
    begins_again_ = false;
    if (power_ == Power::on) {
        if (const auto off = engine_->power_off(); !off)
            (void)failed("no orderly shutdown", off.error());
    }
    if (power_ == Power::off && engine_)
        return result::success;
    if (const auto fresh = go_dark(); !fresh)
        return failed("an engine", fresh.error());
    return result::success;
}

bool SocketTpm::finish() {
    bool done = true;
    const auto label = keep_as_ ? keep_as_ : resumed_as_;
    if (power_ == Power::on && label) {
        const auto ended = put_by(*label, !keep_as_);
        done = ended.has_value();
        if (!done)
            (void)failed("it could not be put by", ended.error());
    } else if (power_ == Power::on) {
        if (const auto ended = engine_->power_off(); !ended)
            (void)failed("no orderly shutdown", ended.error());
    }
    drop_engine();
    power_ = Power::off;
    data_.reset();
    keep_as_.reset();
    resume_.reset();
    resumed_as_.reset();
    retry_at_.reset();
    locality_ = 0;
    manager_.close();
    return done;
}

std::uint32_t SocketTpm::set_data(Fd socket) {
    if (!socket.valid())
        return result::bad_parameter;
    if (const auto stream = check_stream(socket.get()); !stream) {
        (void)failed("no data channel", stream.error());
        return result::bad_parameter;
    }
    if (const auto made = make_non_blocking(socket.get()); !made)
        return failed("no data channel", made.error());
    data_ = std::move(socket);
    if (!engine_)
        return result::success;
    if (const auto given = engine_->give_data(data_.get()); !given)
        return failed("no data channel", given.error());
    return result::success;
}

std::uint32_t SocketTpm::ask(const Order& order, ByteView payload, SocketEngine::Answer* answer) {
    if (!engine_)
        return result::bad_ordinal;
    auto answered = engine_->ask(order, payload);
    if (!answered) {
        engine_died(answered.error().context);
        return result::fail;
    }
    const auto result = answered->result;
    if (answer != nullptr)
        *answer = std::move(*answered);
    return result;
}

std::uint32_t SocketTpm::set_locality(std::uint8_t locality) {
    if (locality > 4)
        return result::bad_locality;
    locality_ = locality;
    if (!engine_)
        return result::success;
    Order order;
    order.mutable_set_locality()->set_locality(locality);
    return ask(order);
}

// libtpms cannot stop a command of TPM 1.2. QEMU waits for the response either way, and tells
// whoever reads its log that it has to.
std::uint32_t SocketTpm::cancel() {
    if (power_ != Power::on)
        return result::bad_ordinal;
    if (instance_.tpm == tpm::Version::v1_2)
        return result::fail;
    engine_->cancel();
    return result::success;
}

std::uint32_t SocketTpm::hash(wire::proto::HashSequence::Step step, ByteView data) {
    if (power_ != Power::on)
        return result::bad_ordinal;
    Order order;
    order.mutable_hash()->set_step(step);
    return ask(order, data);
}

std::uint32_t SocketTpm::established(bool& value) {
    if (power_ != Power::on)
        return result::bad_ordinal;
    Order order;
    order.mutable_established();
    SocketEngine::Answer answer{};
    const auto result = ask(order, {}, &answer);
    value = answer.established;
    return result;
}

std::uint32_t SocketTpm::reset_established(std::uint8_t locality) {
    if (power_ != Power::on)
        return result::bad_ordinal;
    if (locality > 4)
        return result::bad_locality;
    Order order;
    order.mutable_established()->set_reset(true);
    order.mutable_established()->set_locality(locality);
    return ask(order);
}

std::uint32_t SocketTpm::info(std::uint32_t flags, std::string& json) {
    Order order;
    order.mutable_info()->set_flags(flags);
    SocketEngine::Answer answer{};
    const auto result = ask(order, {}, &answer);
    const auto text = answer.payload.view();
    json.assign(text.begin(), text.end());
    return result;
}

// As libtpms has them.
SocketTpm::BufferSize SocketTpm::buffer_size() const {
    return {buffer_size_, instance_.tpm == tpm::Version::v1_2 ? 3072U : 2808U, 4096};
}

std::uint32_t SocketTpm::set_buffer_size(std::uint32_t wanted) {
    if (power_ == Power::on)
        return result::bad_ordinal;
    const auto bounds = buffer_size();
    buffer_size_ = std::clamp(wanted, bounds.least, bounds.most);
    return result::success;
}

// A dead engine takes a command's answer with it, perhaps, and the peer could wait for it for ever:
// it is told by the end of the stream. (QEMU answers its guest with errors from there on.)
void SocketTpm::engine_died(const std::string& why) {
    const std::string how = engine_->end();
    drop_engine();
    spdlog::error("{}: its engine is gone ({}; {})", who(), how, log::printable(why));
    if (data_.valid())
        ::shutdown(data_.get(), SHUT_RDWR);
    data_.reset();
    const bool had_power = power_ == Power::on;
    if (const auto fresh = go_dark(); !fresh)
        (void)failed("another engine", fresh.error());
    if (had_power) {
        power_ = Power::failed;
        spdlog::error(
            "{}: and with it the PCRs of this boot; its guest has no TPM until its "
            "machine is reset or started again",
            who());
    }
}

void SocketTpm::on_engine() {
    if (const auto heard = engine_->on_report(); !heard)
        engine_died(heard.error().context);
}

bool SocketTpm::has_data() {
    if (engine_ && engine_->take_data_closed())
        data_.reset();
    return data_.valid();
}

}  // namespace vtpm::swtpm
