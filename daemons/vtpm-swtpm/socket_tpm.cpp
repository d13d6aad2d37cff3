#include "socket_tpm.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "control_message.h"
#include "vtpm/base/log.h"

namespace vtpm::swtpm {
namespace {

using std::chrono::milliseconds;
using wire::proto::Order;

// Another holder of the same instance: at a migration the source, which has just let go of it.
constexpr milliseconds init_patience{5000};
constexpr milliseconds retry_interval{100};
constexpr milliseconds manager_interval{300};

Result<void> make_non_blocking(int fd) {
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

Result<void> SocketTpm::begin() {
    if (const auto held = hold(milliseconds(0)); !held) {
        // It may be the source of a migration to us.
        if (held.error().code != Errc::in_use)
            return held;
        spdlog::info("{}: {}; it is asked for again when its TPM is to get power", who(),
                     held.error().context);
    }
    return go_dark();
}

Result<void> SocketTpm::hold(milliseconds patience) {
    const auto end = Clock::now() + patience;
    while (manager_.fd() < 0) {
        const auto opened = manager_.open(instance_.uuid, seat_.guest());
        if (opened)
            break;
        const bool may_change = opened.error().code == Errc::in_use ||
                                opened.error().next == NextAction::retry ||
                                opened.error().next == NextAction::retry_later;
        if (!may_change || Clock::now() >= end)
            return tl::make_unexpected(opened.error());
        std::this_thread::sleep_for(retry_interval);
    }
    return {};
}

// Without power, and with what the guest's machine has set; it hears no command yet.
Result<void> SocketTpm::fresh_engine() {
    drop_engine();
    power_ = Power::off;
    VTPM_TRY(auto log, log_.open());
    VTPM_TRY(engine_, SocketEngine::start(engine_program_, instance_.tpm,
                                          seat_.guest().engine_uid(), std::move(log)));
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

std::uint32_t SocketTpm::init() {
    if (power_ != Power::off) {
        if (const auto stopped = stop(); stopped != result::success)
            return stopped;
    }
    const auto label = std::exchange(resume_, std::nullopt);
    const auto begin = Clock::now();
    if (const auto on = power_on(label, init_patience); !on) {
        const auto result = failed("the TPM could not be started", on.error());
        if (const auto again = go_dark(); !again)
            return failed("and no other engine", again.error());
        return result;
    }
    spdlog::info("{}: TPM {} {} in {} ms", who(), tpm::to_string(instance_.tpm),
                 label ? "goes on" : "started",
                 std::chrono::duration_cast<milliseconds>(Clock::now() - begin).count());
    return result::success;
}

Result<void> SocketTpm::power_on(std::optional<std::uint64_t> label, milliseconds patience) {
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
    order.set_has_firmware(true);
    order.set_buffer_size(buffer_size_);
    order.set_resume(label.has_value());
    order.set_life(label.value_or(0));
    VTPM_CHECK(engine_->power_on(order));
    power_ = Power::on;
    // A command that waits must not find a TPM without power.
    return dark ? Result<void>() : give_data();
}

std::uint32_t SocketTpm::stop() {
    std::uint32_t result = result::success;
    if (power_ == Power::on) {
        if (const auto off = engine_->power_off(); !off)
            result = failed("no orderly shutdown", off.error());
    }
    if (power_ == Power::off && engine_)
        return result;
    if (const auto fresh = go_dark(); !fresh)
        return failed("an engine", fresh.error());
    return result;
}

void SocketTpm::finish() {
    if (power_ == Power::on) {
        const auto ended = keep_as_ ? suspend(*keep_as_) : engine_->power_off();
        if (!ended)
            (void)failed("no orderly shutdown", ended.error());
    }
    drop_engine();
    power_ = Power::off;
    data_.reset();
    keep_as_.reset();
    resume_.reset();
    locality_ = 0;
    manager_.close();
}

std::uint32_t SocketTpm::set_data(Fd socket) {
    if (!socket.valid())
        return result::bad_parameter;
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

std::uint32_t SocketTpm::cancel() {
    if (power_ != Power::on)
        return result::bad_ordinal;
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
        return engine_died(heard.error().context);
    if (engine_->take_data_closed())
        data_.reset();
}

// The engine's own channel broke with it: commits wait a little and then fail, what needs none goes
// on, until the manager is back.
void SocketTpm::on_manager() {
    manager_.close();
    spdlog::error(
        "{}: vtpmmgrd is gone; until it is back the TPM refuses what would change its "
        "lasting state",
        who());
    retry_at_ = Clock::now();
}

void SocketTpm::tick(Clock::time_point now) {
    if (!retry_at_ || now < *retry_at_)
        return;
    retry_at_.reset();
    if (power_ == Power::parked)
        return;  // nothing is held
    if (const auto held = hold(milliseconds(0)); !held) {
        retry_at_ = now + manager_interval;
        return;
    }
    spdlog::info("{}: vtpmmgrd is back", who());
    if (power_ != Power::on)
        return;
    auto channel = manager_.attach_engine();
    if (!channel) {
        manager_.close();
        retry_at_ = now + manager_interval;
        return;
    }
    if (const auto given = engine_->give_manager(std::move(*channel)); !given)
        engine_died(given.error().context);
}

}  // namespace vtpm::swtpm
