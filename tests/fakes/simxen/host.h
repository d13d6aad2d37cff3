// SimHost: a host for tests and benches without Xen and without systemd: a chip (swtpm), the real
// vtpmmgrd, and real engines on the simulated Xen, started as vtpmd starts them.
// SimGuest: one guest on it, whose doorman we are.
//
// Everything lives in one temporary directory. Problems of the host's own throw. One thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine_process.h"
#include "fakes/chip/swtpm.h"
#include "fakes/simxen/front_end.h"
#include "manager_client.h"
#include "vtpm/base/uuid.h"

namespace vtpm::fakes {

// A child process of ours; killed and reaped at the end.
class Child {
  public:
    explicit Child(const std::vector<std::string>& words);
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() { kill(); }

    pid_t pid() const { return pid_; }
    void kill();  // SIGKILL

  private:
    pid_t pid_ = -1;
};

class SimHost {
  public:
    // Sets SIMXEN_DIR and LD_LIBRARY_PATH for this process and what it starts.
    SimHost();

    const std::filesystem::path& directory() const { return directory_.path(); }
    std::string socket() const { return directory_.path() / "manager"; }
    pid_t manager_pid() const { return manager_->pid(); }

    // False where RLIMIT_MEMLOCK is small and cannot be raised: then engines run without
    // mlockall(), which is all that differs from the real ones.
    bool locks_engines() const;

    Uuid create(tpm::Version version);
    std::uint64_t commits(const Uuid& uuid);  // the instance's durable writes so far
    void kill_manager() { manager_->kill(); }
    void start_manager();

  private:
    wire::proto::Reply ask(wire::proto::Request request);

    TemporaryDirectory directory_;
    Swtpm chip_;
    std::optional<Child> manager_;
    unsigned created_ = 0;
};

class SimGuest {
  public:
    SimGuest(const SimHost& host, xen::DomainId domain, const Uuid& uuid)
        : guest_{domain, 0},
          uuid_(uuid),
          manager_(host.socket()),
          front_(host.directory(), domain) {}

    // As vtpmd on a guest's start: the instance, the engine, PowerOn, its Ready report.
    Result<void> start();
    // The last start's time from before the fork to the report.
    std::chrono::microseconds start_time() const { return start_time_; }

    // The guest's power ends in order: the engine commits and exits.
    Result<void> power_off();
    // As by SIGKILL from outside; the instance is let go too.
    void kill();
    pid_t engine_pid() const { return engine_pid_; }

    FrontEnd& front() { return front_; }
    doorman::EngineProcess& engine() { return *engine_; }

  private:
    Result<void> start_engine(tpm::Version version);

    doorman::GuestDevice guest_;
    Uuid uuid_;
    doorman::ManagerClient manager_;
    FrontEnd front_;
    std::optional<doorman::EngineProcess> engine_;
    pid_t engine_pid_ = -1;
    std::chrono::microseconds start_time_{};
};

// Our own children that have not been reaped, by /proc.
std::vector<pid_t> children();

}  // namespace vtpm::fakes
