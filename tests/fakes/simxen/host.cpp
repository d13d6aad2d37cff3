#include "fakes/simxen/host.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include "vtpm/wire/failure.h"

namespace vtpm::fakes {
namespace {

using Clock = std::chrono::steady_clock;

template <typename T>
T must(Result<T> result) {
    if (!result)
        throw std::runtime_error(result.error().context);
    return std::move(*result);
}

// As the units' LimitMEMLOCK=infinity, without which an engine that is no longer root cannot map
// another byte.
bool may_lock_memory() {
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    static const bool may = ::setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0;
    return may;
}

// While it lives, what we start does not lock its memory, if it could not: see unlocked.cpp.
class EngineEnvironment {
  public:
    EngineEnvironment() {
        if (!may_lock_memory())
            ::setenv("LD_PRELOAD", SIMXEN_UNLOCKED, 1);
    }
    EngineEnvironment(const EngineEnvironment&) = delete;
    EngineEnvironment& operator=(const EngineEnvironment&) = delete;
    ~EngineEnvironment() { ::unsetenv("LD_PRELOAD"); }
};

}  // namespace

Child::Child(const std::vector<std::string>& words) {
    std::vector<std::string> copies = words;
    std::vector<char*> arguments;
    for (auto& word : copies)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    if (::posix_spawnp(&pid_, arguments[0], nullptr, nullptr, arguments.data(), environ) != 0)
        throw std::runtime_error("cannot start " + words[0]);
}

void Child::kill() {
    if (pid_ <= 0)
        return;
    ::kill(pid_, SIGKILL);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
}

SimHost::SimHost() : chip_(directory_.path() / "chip") {
    ::signal(SIGPIPE, SIG_IGN);
    ::setenv("SIMXEN_DIR", directory_.path().c_str(), 1);
    ::setenv("LD_LIBRARY_PATH", SIMXEN_LIBRARIES, 1);
    std::ofstream(directory_.path() / "manager.toml")
        << "tcti = \"" << chip_.tcti() << "\"\n"
        << "state_dir = \"" << (directory_.path() / "vault").string() << "\"\n"
        << "socket = \"" << socket() << "\"\n";
    start_manager();
    wire::proto::Request request;
    request.mutable_setup();
    ask(request);
}

void SimHost::start_manager() {
    manager_.reset();
    manager_.emplace(std::vector<std::string>{VTPM_MANAGER, "--config",
                                              (directory_.path() / "manager.toml").string()});
    for (int i = 0; i < 1000; ++i) {
        if (connect_to(socket()).valid())
            return;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    throw std::runtime_error("vtpmmgrd does not listen");
}

wire::proto::Reply SimHost::ask(wire::proto::Request request) {
    wire::Channel channel(must(wire::connect_to(socket())));
    request.set_protocol(wire::protocol_version);
    if (const auto sent = channel.send(request); !sent)
        throw std::runtime_error(sent.error().context);
    const auto frame = must(channel.receive(std::chrono::seconds(60)));
    auto reply = must(wire::parse<wire::proto::Reply>(frame));
    if (reply.has_failure())
        throw std::runtime_error(reply.failure().context());
    return reply;
}

bool SimHost::locks_engines() const {
    return may_lock_memory();
}

std::uint64_t SimHost::commits(const Uuid& uuid) {
    wire::proto::Request request;
    request.mutable_show()->set_selector(uuid.to_string());
    return ask(request).instance().sequence();
}

Uuid SimHost::create(tpm::Version version) {
    wire::proto::Request request;
    request.mutable_create()->set_name("guest" + std::to_string(created_++));
    request.mutable_create()->set_tpm(static_cast<std::uint32_t>(version));
    return must(Uuid::from_bytes(as_bytes(ask(request).instance().uuid())));
}

Result<void> SimGuest::start() {
    VTPM_TRY(const auto instance, manager_.open(uuid_, guest_));
    return start_engine(instance.tpm);
}

Result<void> SimGuest::start_engine(tpm::Version version) {
    VTPM_TRY(auto channel, manager_.attach_engine());
    const auto before = children();
    const EngineEnvironment environment;
    const auto begin = Clock::now();
    VTPM_TRY(auto engine, doorman::EngineProcess::start(VTPM_ENGINE, guest_, front_.address(),
                                                        std::move(channel)));
    wire::proto::PowerOn order;
    order.set_tpm(static_cast<std::uint32_t>(version));
    VTPM_CHECK(engine.power_on(order, SecretBytes()));
    VTPM_TRY(const auto report, engine.next_report());
    start_time_ = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin);
    if (report.has_failure())
        return tl::unexpected<Error>(wire::to_error(report.failure()));
    // EngineProcess keeps the number to itself: the youngest child of ours is it.
    for (const pid_t pid : children()) {
        if (std::find(before.begin(), before.end(), pid) == before.end())
            engine_pid_ = pid;
    }
    engine_.emplace(std::move(engine));
    return {};
}

Result<void> SimGuest::power_off() {
    const auto off = engine_->power_off();
    kill();
    return off;
}

void SimGuest::kill() {
    engine_.reset();
    engine_pid_ = -1;
    manager_.close();
}

std::vector<pid_t> children() {
    std::vector<pid_t> found;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::ifstream list(task.path() / "children");
        for (pid_t pid = 0; list >> pid;)
            found.push_back(pid);
    }
    return found;
}

}  // namespace vtpm::fakes
