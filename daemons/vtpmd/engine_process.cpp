#include "engine_process.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

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

// A Ready, one failure beside it, and a word about a new channel.
constexpr int max_left_reports = 3;

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

std::vector<std::string> arguments_for(const std::string& program, GuestDevice guest,
                                       const xen::RingAddress& ring) {
    return {program,
            "--domain",
            std::to_string(ring.domid),
            "--ring-ref",
            std::to_string(ring.ring_ref),
            "--event-channel",
            std::to_string(ring.event_channel),
            "--uid",
            std::to_string(guest.engine_uid())};
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
    VTPM_TRY(auto pair, stream_socket_pair());
    for (const int fd : {state.get(), pair.first.get(), pair.second.get()})
        VTPM_CHECK(bound_writes(fd));
    auto words = arguments_for(program, guest, ring);
    const auto arguments = pointers_to(words);
    auto variables = engine_environment();
    const auto environment = pointers_to(variables);

    clone_args args{};
    args.flags = CLONE_NEWPID;
    args.exit_signal = SIGCHLD;
    const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof(args)));
    if (pid < 0)
        return fail_errno("starting vtpm-engine", errno);
    if (pid == 0) {
        become_engine(program.c_str(), arguments.data(), environment.data(), pair.second.get(),
                      state.get(), log.get());
    }
    return EngineProcess(pid, std::move(pair.first));
}

EngineProcess::EngineProcess(EngineProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      was_killed_(other.was_killed_),
      channel_(std::move(other.channel_)),
      ready_(std::move(other.ready_)) {}

EngineProcess::~EngineProcess() {
    end();
}

std::string EngineProcess::end() {
    if (pid_ <= 0)
        return "has ended";
    ::kill(pid_, SIGKILL);  // an ended one stays a zombie until it is reaped: never someone else
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    was_killed_ = WIFSIGNALED(status);
    if (was_killed_)
        return "killed by signal " + std::to_string(WTERMSIG(status));
    return "exited with " + std::to_string(WEXITSTATUS(status));
}

Result<void> EngineProcess::power_on(const wire::proto::PowerOn& order,
                                     const SecretBytes& volatile_state) {
    Order message;
    *message.mutable_power_on() = order;
    return channel_.send(message, volatile_state.view());
}

Result<Report> EngineProcess::next_report() {
    VTPM_TRY(const auto frame, channel_.receive(answer_time));
    return wire::parse<Report>(frame);
}

void EngineProcess::drain() {
    for (int i = 0; i < max_left_reports; ++i) {
        const auto frame = channel_.receive(std::chrono::milliseconds(0));
        if (!frame)
            return;
        const auto report = wire::parse<Report>(*frame);
        if (report && report->has_ready())
            ready_ = report->ready();
    }
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
    return channel_.send(message, {}, state.get());
}

Result<void> EngineProcess::suspend(std::uint64_t life) {
    Order message;
    message.mutable_suspend()->set_life(life);
    VTPM_TRY(const auto frame, order(message, Report::kSuspended));
    return {};
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
    VTPM_CHECK(channel_.send(order));
    const auto end = std::chrono::steady_clock::now() + answer_time;
    for (int i = 0; i < max_left_reports; ++i) {
        const auto left = end - std::chrono::steady_clock::now();
        VTPM_TRY(auto frame, channel_.receive(std::chrono::ceil<std::chrono::milliseconds>(left)));
        VTPM_TRY(const auto report, wire::parse<Report>(frame));
        if (report.body_case() == expected)
            return frame;
        if (report.has_ready()) {
            ready_ = report.ready();
            continue;
        }
        if (report.has_attached())
            continue;
        if (report.has_failure())
            return tl::unexpected<Error>(wire::to_error(report.failure()));
        break;
    }
    return fail(Errc::malformed, "the engine reported something else than it was asked for");
}

}  // namespace vtpm::doorman
