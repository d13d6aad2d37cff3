#include "engine_process.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>
#include <vector>

#include "vtpm/wire/failure.h"

namespace vtpm::doorman {
namespace {

using wire::proto::Order;
using wire::proto::Report;

constexpr int doorman_fd = 3;  // as vtpm-engine's main.cpp expects them
constexpr int manager_fd = 4;

// A ring can only be quiesced between two commands; the longest one is RSA key generation. A
// destroyed guest costs two answers, and libxl waits 10 s.
constexpr std::chrono::milliseconds answer_time{4500};

// How long an adopted engine's word is waited for. It gives none in the middle of a command.
constexpr std::chrono::milliseconds word_time{2000};

// A Ready, one failure beside it, a word about a new channel, and one to us as its new vtpmd.
constexpr int max_left_reports = 4;

// Of several vtpmds that died one after another while it was busy.
constexpr int max_reports_for_others = 256;

// An engine that waits for its manager must not wait inside a write for ever.
Result<void> bound_writes(int socket) {
    const timeval write_time{60, 0};
    if (::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &write_time, sizeof(write_time)) != 0)
        return fail_errno("SO_SNDTIMEO", errno);
    return {};
}

// In the child, between clone and exec: system calls only.
[[noreturn]] void become_engine(const char* program, char* const* arguments,
                                char* const* environment, int doorman, int state, int log) {
    // Out of the way first: either may sit where the other has to go.
    const int doorman_copy = ::fcntl(doorman, F_DUPFD, 16);
    const int state_copy = ::fcntl(state, F_DUPFD, 16);
    const int log_copy = ::fcntl(log, F_DUPFD, 16);
    if (doorman_copy >= 0 && state_copy >= 0 && log_copy >= 0 &&
        ::dup2(doorman_copy, doorman_fd) >= 0 && ::dup2(state_copy, manager_fd) >= 0 &&
        ::dup2(log_copy, STDERR_FILENO) >= 0) {
        ::close(doorman_copy);
        ::close(state_copy);
        ::close(log_copy);
        sigset_t none;
        ::sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        ::execve(program, arguments, environment);
    }
    ::_exit(127);
}

std::vector<std::string> arguments_for(GuestDevice guest, const xen::RingAddress& ring) {
    return {"--domain",        std::to_string(ring.domid),
            "--ring-ref",      std::to_string(ring.ring_ref),
            "--event-channel", std::to_string(ring.event_channel),
            "--uid",           std::to_string(guest.engine_uid())};
}

// libtpms frees what held a guest's secrets as it is. So malloc writes over all that it is given
// back (mallopt(3), M_PERTURB), which it does neither for what it caches nor for what it unmaps.
// And it keeps what it has: to give back and take again the 270 KB in which libtpms writes its
// state down would be some 40 page faults a write, which took longer than the disk.
constexpr std::string_view wiping_malloc =
    "GLIBC_TUNABLES=glibc.malloc.perturb=165:glibc.malloc.tcache_count=0:glibc.malloc.mmap_max=0"
    ":glibc.malloc.trim_threshold=67108864";

std::vector<std::string> engine_environment() {
    std::vector<std::string> words;
    for (char** word = environ; *word != nullptr; ++word) {
        if (!std::string_view(*word).starts_with("GLIBC_TUNABLES="))
            words.emplace_back(*word);
    }
    words.emplace_back(wiping_malloc);
    return words;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
    std::vector<char*> pointers;
    for (auto& word : words)
        pointers.push_back(word.data());
    pointers.push_back(nullptr);
    return pointers;
}

}  // namespace

Result<EngineProcess> EngineProcess::start(const std::string& program, GuestDevice guest,
                                           const xen::RingAddress& ring, Fd state, Fd log) {
    return start(program, arguments_for(guest, ring), std::move(state), std::move(log));
}

Result<EngineProcess> EngineProcess::start(const std::string& program,
                                           const std::vector<std::string>& given, Fd state,
                                           Fd log) {
    VTPM_TRY(auto pair, stream_socket_pair());
    for (const int fd : {state.get(), pair.first.get(), pair.second.get()})
        VTPM_CHECK(bound_writes(fd));
    std::vector<std::string> words = {program};
    words.insert(words.end(), given.begin(), given.end());
    const auto arguments = pointers_to(words);
    auto variables = engine_environment();
    const auto environment = pointers_to(variables);

    clone_args args{};
    int process = -1;
    args.flags = CLONE_NEWPID | CLONE_PIDFD;
    args.pidfd = reinterpret_cast<std::uintptr_t>(&process);
    args.exit_signal = SIGCHLD;
    const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof(args)));
    if (pid < 0)
        return fail_errno("starting vtpm-engine", errno);
    if (pid == 0) {
        become_engine(program.c_str(), arguments.data(), environment.data(), pair.second.get(),
                      state.get(), log.get());
    }
    return EngineProcess(pid, Fd(process), std::move(pair.first));
}

EngineProcess::EngineProcess(EngineProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      process_(std::move(other.process_)),
      was_killed_(other.was_killed_),
      channel_(std::move(other.channel_)),
      ready_(std::move(other.ready_)),
      attaching_(other.attaching_),
      question_(other.question_),
      late_words_(other.late_words_),
      standing_(std::move(other.standing_)),
      handed_over_(std::move(other.handed_over_)) {}

EngineProcess EngineProcess::adopt(Fd channel, Fd process) {
    return EngineProcess(0, std::move(process), std::move(channel));
}

EngineProcess::~EngineProcess() {
    end();
}

std::string EngineProcess::end() {
    if (!process_.valid())
        return "has ended";
    // Whether it dies of ours: one that crashes may have closed its channel only so far.
    pollfd over{process_.get(), POLLIN, 0};
    const bool had_ended = ::poll(&over, 1, 0) > 0;
    ::syscall(SYS_pidfd_send_signal, process_.get(), SIGKILL, nullptr, 0);
    if (pid_ == 0) {
        pollfd ended{process_.get(), POLLIN, 0};
        const bool in_time = ::poll(&ended, 1, static_cast<int>(answer_time.count())) > 0;
        process_.reset();
        return in_time ? "how is not known, it was another vtpmd's child"
                       : "killed, but still there";
    }
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    process_.reset();
    was_killed_ = WIFSIGNALED(status) && (had_ended || WTERMSIG(status) != SIGKILL);
    if (WIFSIGNALED(status))
        return "killed by signal " + std::to_string(WTERMSIG(status));
    return "exited with " + std::to_string(WEXITSTATUS(status));
}

Result<void> EngineProcess::power_on(const wire::proto::PowerOn& order,
                                     const SecretBytes& volatile_state) {
    Order message;
    *message.mutable_power_on() = order;
    return channel_.send(message, volatile_state.view());
}

Result<std::optional<Report>> EngineProcess::next_report() {
    VTPM_TRY(auto frame, channel_.receive(answer_time));
    VTPM_TRY(auto report, wire::parse<Report>(frame));
    if (for_another(report, frame))
        return std::nullopt;
    return report;
}

void EngineProcess::drain() {
    for (int i = 0; i < max_left_reports + (question_ != 0 ? max_reports_for_others : 0); ++i) {
        auto frame = channel_.receive(std::chrono::milliseconds(0));
        if (!frame)
            return;
        const auto report = wire::parse<Report>(*frame);
        if (report && !for_another(*report, *frame) && report->has_ready())
            ready_ = report->ready();
    }
}

void EngineProcess::leave() {
    pid_ = 0;
    process_.reset();
}

// Until our question is answered, all is. Of that only a memory is of worth, which would be lost.
// Afterwards a Standing is: one that was asked for once more, or by somebody before us. Not without
// an end: nobody asked for so many.
bool EngineProcess::for_another(const Report& report, wire::Frame& frame) {
    if (question_ == 0)
        return report.has_standing() && ++late_words_ <= max_reports_for_others;
    if (report.has_standing() && report.standing().question() == question_) {
        question_ = 0;
        standing_ = report.standing();
    } else if (report.has_handed_over()) {
        handed_over_ = std::move(frame.payload);
    }
    return true;
}

// The vtpmd before us may have died in the middle of a report. What is left of it is worth nothing.
bool EngineProcess::in_step() const {
    std::array<std::uint8_t, wire::prefix_size> prefix{};
    const auto got = ::recv(fd(), prefix.data(), prefix.size(), MSG_PEEK | MSG_DONTWAIT);
    return got <= 0 || wire::parse_prefix(prefix).has_value();
}

void EngineProcess::discard() {
    std::array<std::uint8_t, 4096> bytes{};
    constexpr std::size_t most = wire::max_payload_size + wire::max_message_size;
    for (std::size_t all = 0; all < most; all += bytes.size()) {
        if (::recv(fd(), bytes.data(), bytes.size(), MSG_DONTWAIT) <= 0)
            break;
    }
    wipe(bytes);
}

Result<std::optional<wire::proto::Standing>> EngineProcess::describe() {
    while (question_ == 0) {
        if (::getrandom(&question_, sizeof(question_), 0) != sizeof(question_))
            return fail_errno("getrandom", errno);
    }
    Order order;
    order.mutable_describe()->set_question(question_);
    VTPM_CHECK(hear_standing(order));
    return take_standing();
}

// By a channel of its own: if that breaks, because the engine has ended, what it has said is still
// to be read.
Result<void> EngineProcess::send(const Order& order, int descriptor) const {
    Fd end(::fcntl(fd(), F_DUPFD_CLOEXEC, 3));
    if (!end.valid())
        return fail_errno("fcntl", errno);
    wire::Channel out(std::move(end));
    return out.send(order, {}, descriptor);
}

// What lies there already comes first: of an engine that has ended it is all there will be.
Result<void> EngineProcess::hear_standing(const Order& question) {
    const auto end = std::chrono::steady_clock::now() + word_time;
    bool asked = false;
    for (int reports = 0; reports < max_reports_for_others;) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
        pollfd word{fd(), POLLIN, 0};
        const int wait = asked ? static_cast<int>(std::max<std::int64_t>(left.count(), 0)) : 0;
        if (::poll(&word, 1, wait) <= 0) {
            if (std::exchange(asked, true))
                return {};
            (void)send(question);
            continue;
        }
        ++reports;
        if (!in_step()) {
            discard();
            asked = false;
            continue;
        }
        VTPM_TRY(auto frame, channel_.receive(answer_time));
        VTPM_TRY(const auto report, wire::parse<Report>(frame));
        (void)for_another(report, frame);
        if (question_ == 0)
            return {};
    }
    return fail(Errc::malformed, "the engine does not say where it stands");
}

Result<void> EngineProcess::quiesce() {
    Order message;
    message.mutable_quiesce();
    VTPM_TRY(const auto frame, order(message, Report::kQuiesced));
    return {};
}

Result<SecretBytes> EngineProcess::hand_over() {
    Order message;
    message.mutable_hand_over();
    VTPM_TRY(auto frame, order(message, Report::kHandedOver));
    return std::move(frame.payload);
}

Result<void> EngineProcess::attach(Fd state) {
    VTPM_CHECK(bound_writes(state.get()));
    Order message;
    message.mutable_attach();
    ++attaching_;
    return send(message, state.get());
}

bool EngineProcess::take_attached() {
    if (attaching_ == 0)
        return false;
    --attaching_;
    return true;
}

Result<void> EngineProcess::suspend(std::uint64_t life) {
    Order message;
    message.mutable_suspend()->set_life(life);
    VTPM_TRY(const auto frame, order(message, Report::kSuspended));
    return {};
}

Result<void> EngineProcess::go_on() const {
    Order message;
    message.mutable_go_on();
    return send(message);
}

Result<void> EngineProcess::power_off() {
    Order message;
    message.mutable_power_off();
    VTPM_TRY(const auto frame, order(message, Report::kPoweredOff));
    return {};
}

// A Ready that was still on its way when the order was given comes first; take_ready() has it. It
// must not be lost: the guest may have had answers of this TPM, and it has to go on as it is.
Result<wire::Frame> EngineProcess::order(const Order& order, Report::BodyCase expected) {
    VTPM_CHECK(send(order));
    const auto end = std::chrono::steady_clock::now() + answer_time;
    for (int own = 0, others = 0; own < max_left_reports && others < max_reports_for_others;) {
        const auto left = end - std::chrono::steady_clock::now();
        VTPM_TRY(auto frame, channel_.receive(std::chrono::ceil<std::chrono::milliseconds>(left)));
        VTPM_TRY(const auto report, wire::parse<Report>(frame));
        if (for_another(report, frame)) {
            ++others;
            continue;
        }
        ++own;
        if (report.body_case() == expected)
            return frame;
        if (report.has_ready()) {
            ready_ = report.ready();
            continue;
        }
        if (report.has_attached() && take_attached())
            continue;
        if (report.has_failure())
            return tl::unexpected<Error>(wire::to_error(report.failure()));
        break;
    }
    return fail(Errc::malformed, "the engine reported something else than it was asked for");
}

}  // namespace vtpm::doorman
