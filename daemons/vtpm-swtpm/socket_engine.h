// SocketEngine: one running vtpm-swtpm-engine: a TPM without power, until power_on(), then one with
// it, for one power cycle. Destroying it kills the process. One thread; each order waits for its
// answer, with a bound.
#pragma once

#include <functional>

#include "engine_process.h"
#include "vtpm/base/shared_count.h"
#include "vtpm/tpm/version.h"

namespace vtpm::swtpm {

class SocketEngine {
  public:
    static Result<std::unique_ptr<SocketEngine>> start(const std::string& program,
                                                       tpm::Version version, std::uint32_t uid,
                                                       Fd log);

    // A non-blocking socket; the caller keeps its own descriptor.
    Result<void> give_data(int socket);
    // Not waited for: its next order, or the command that runs, has it.
    Result<void> give_manager(Fd channel) { return process_.attach(std::move(channel)); }
    Result<void> power_on(const wire::proto::PowerOn& order);
    Result<void> power_off();
    // `if_unused`: a TPM that has done something since power_on() is switched off instead: false.
    Result<bool> suspend(std::uint64_t label, bool if_unused = false);
    // After an error of an order's: it was refused, and the engine is as it was before.
    bool in_step() const { return in_step_; }
    // Called again and again while an order waits for its answer. It must give no order that does.
    void on_idle(std::function<void()> idle) { idle_ = std::move(idle); }
    // Of a command that runs, if one does.
    void cancel();

    struct Answer {
        std::uint32_t result;
        bool established;
        SecretBytes payload;
    };
    Result<Answer> ask(const wire::proto::Order& order, ByteView payload = {});

    int fd() const { return process_.fd(); }
    // What it reports of its own accord: fd() is readable. An error: it is gone, or is to be.
    Result<void> on_report();
    // Once for each data channel that it has given up.
    bool take_data_closed() { return std::exchange(data_closed_, false); }
    std::string end() { return process_.end(); }

  private:
    using BodyCase = wire::proto::Report::BodyCase;
    // An order waits for the command that runs; the longest makes an RSA key.
    static constexpr std::chrono::milliseconds longest_patience{30'000};

    SocketEngine(doorman::EngineProcess process, SharedCount cancels, Fd bell)
        : process_(std::move(process)), cancels_(std::move(cancels)), bell_(std::move(bell)) {}
    Result<wire::Frame> exchange(const wire::proto::Order& order, BodyCase expected,
                                 ByteView payload = {}, int descriptor = -1,
                                 std::chrono::milliseconds patience = longest_patience);
    std::chrono::nanoseconds wait_until(std::chrono::steady_clock::time_point end) const;

    doorman::EngineProcess process_;
    SharedCount cancels_;
    Fd bell_;
    std::function<void()> idle_;
    bool data_closed_ = false;
    bool in_step_ = true;
};

}  // namespace vtpm::swtpm
