// EngineLog: the only way from an engine's standard error into the journal.
//
// The engine is assumed to be conquered: lines are cut, what is not printable ASCII is replaced, a
// line can call itself an error at most, and only so many a minute are passed on. The rest stays in
// the pipe, which is full then; the engine's own writes fail, and nobody else waits or works.
// One thread.
#pragma once

#include <chrono>
#include <string>

#include "vtpm/base/fd.h"
#include "vtpm/base/rate_bound.h"
#include "vtpm/base/result.h"

namespace vtpm::doorman {

class EngineLog {
  public:
    using Clock = RateBound::Clock;

    explicit EngineLog(std::string who) : who_(std::move(who)) {}

    // The end for a new engine to write to. What the one before has left is told first.
    Result<Fd> open();
    // That of an engine which goes on under us.
    void adopt(Fd pipe) { pipe_ = std::move(pipe); }
    int descriptor() const { return pipe_.get(); }
    // To be polled for POLLIN; -1: nothing to be read, or not now.
    int fd(Clock::time_point now) const { return lines_.allows(now) ? pipe_.get() : -1; }
    Clock::time_point readable_from() const { return lines_.allowed_from(); }
    bool is_open() const { return pipe_.valid(); }

    void read(Clock::time_point now);
    // The engine is gone: its last lines.
    void finish(Clock::time_point now);

    static constexpr std::size_t line_limit = 300;
    static constexpr unsigned burst = 60;
    static constexpr std::chrono::seconds interval{2};

  private:
    bool fill();
    void tell(Clock::time_point now, bool all);
    void tell_line(std::string_view line);

    std::string who_;
    Fd pipe_;
    std::string text_;  // read, not yet told
    RateBound lines_{burst, interval};
    RateBound complaints_{1, std::chrono::minutes(10)};
};

}  // namespace vtpm::doorman
