#include "fakes/simxen/sim_host.h"

#include <sys/resource.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "vtpm/jail/sanitizer.h"
#include "vtpm/wire/channel.h"

namespace vtpm::fakes {
namespace {

template <typename T>
T must(Result<T> result) {
    if (!result)
        throw std::runtime_error(result.error().context);
    return std::move(*result);
}

// As the unit has it run, if the test's environment says so (tests/integration/unit_filter).
std::vector<std::string> as_unit(const std::string& unit, std::vector<std::string> words) {
    const char* const program = std::getenv("VTPM_UNDER_FILTER");
    const char* const lists = std::getenv("VTPM_UNIT_CALLS");
    if (program != nullptr && lists != nullptr)
        words.insert(words.begin(), {program, std::string(lists) + "/" + unit + ".calls"});
    return words;
}

}  // namespace

SimHost::SimHost(bool tapped)
    : xen_(directory_.path()), chip_(directory_.path() / "chip"), engine_(VTPM_ENGINE) {
    if (tapped) {
        tap_.emplace(directory_.path(), chip_.socket());
        tap_->meddle([this](Bytes&, Bytes&) { return ++chip_commands_ > 0; });
    }
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directory(directory() / "run");
    std::ofstream(directory() / "manager.toml")
        << "tcti = \"" << (tap_ ? tap_->tcti() : chip_.tcti()) << "\"\n"
        << "state_dir = \"" << vault().string() << "\"\n"
        << "socket = \"" << socket() << "\"\n";
    start_manager();
    wire::proto::Request request;
    request.mutable_setup();
    ask(request);
}

void SimHost::start_manager() {
    manager_.reset();
    manager_.emplace(
        as_unit("vtpmmgrd", {VTPM_MANAGER, "--config", (directory() / "manager.toml").string()}),
        manager_environment_);
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

Uuid SimHost::create(tpm::Version version) {
    wire::proto::Request request;
    request.mutable_create()->set_name("guest" + std::to_string(created_++));
    request.mutable_create()->set_tpm(static_cast<std::uint32_t>(version));
    return must(Uuid::from_bytes(as_bytes(ask(request).instance().uuid())));
}

void SimHost::remove(const Uuid& uuid) {
    wire::proto::Request request;
    request.mutable_remove()->set_selector(uuid.to_string());
    ask(request);
}

void SimHost::take_snapshot(const Uuid& uuid, const std::string& name) {
    wire::proto::Request request;
    request.mutable_take_snapshot()->set_selector(uuid.to_string());
    request.mutable_take_snapshot()->set_snapshot(name);
    ask(request);
}

void SimHost::revert(const Uuid& uuid, const std::string& snapshot) {
    wire::proto::Request request;
    request.mutable_revert()->set_selector(uuid.to_string());
    request.mutable_revert()->set_snapshot(snapshot);
    ask(request);
}

Uuid SimHost::clone(const Uuid& uuid, const std::string& snapshot) {
    wire::proto::Request request;
    request.mutable_clone()->set_selector(uuid.to_string());
    request.mutable_clone()->set_snapshot(snapshot);
    request.mutable_clone()->set_name("clone" + std::to_string(created_++));
    return must(Uuid::from_bytes(as_bytes(ask(request).instance().uuid())));
}

wire::proto::Instance SimHost::show(const Uuid& uuid) {
    wire::proto::Request request;
    request.mutable_show()->set_selector(uuid.to_string());
    return ask(request).instance();
}

wire::proto::Status SimHost::status() {
    wire::proto::Request request;
    request.mutable_status();
    return ask(request).status();
}

std::vector<std::string> SimHost::doorman_command(const std::string& device) const {
    return as_unit("vtpmd@", {VTPM_DOORMAN, device, "--manager", socket(), "--engine", engine_,
                              "--run-dir", (directory() / "run").string()});
}

std::vector<std::string> SimHost::clock_from(const std::filesystem::path& file) {
    return {std::string("LD_PRELOAD=") + SIMXEN_LIBRARIES + "/jumping_clock.so",
            "VTPM_TEST_CLOCK=" + file.string()};
}

// As the unit's LimitMEMLOCK=infinity, without which an engine that is no longer root cannot map
// another byte.
bool SimHost::locks_memory() {
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    static const bool may = ::setrlimit(RLIMIT_MEMLOCK, &unlimited) == 0;
    return may;
}

std::vector<std::string> SimHost::environment() {
    // Another thread may be a guest at this moment.
    std::vector<std::string> variables = {"SIMXEN_DOMID=0",
                                          std::string("LD_LIBRARY_PATH=") + SIMXEN_LIBRARIES};
    if (!locks_memory() && !jail::sanitized)  // a sanitizer's mlockall() locks nothing
        variables.push_back(std::string("LD_PRELOAD=") + SIMXEN_LIBRARIES + "/unlocked.so");
    return variables;
}

}  // namespace vtpm::fakes
