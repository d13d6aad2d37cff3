// SimHost: a machine without Xen and without systemd, for tests and benches: SimXen, a chip (swtpm)
// and the real vtpmmgrd, in one temporary directory. Problems of its own throw. One thread.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "fakes/chip/swtpm.h"
#include "fakes/simxen/child.h"
#include "fakes/simxen/sim_xen.h"
#include "vtpm/base/uuid.h"
#include "vtpm/tpm/version.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::fakes {

class SimHost {
  public:
    // `tapped`: what passes between vtpmmgrd and the chip is counted.
    explicit SimHost(bool tapped = false);

    const std::filesystem::path& directory() const { return directory_.path(); }
    SimXen& xen() { return xen_; }
    pid_t manager_pid() const { return manager_->pid(); }

    Uuid create(tpm::Version version);
    void remove(const Uuid& uuid);
    // vtpmctl snapshot, revert, clone; what they are refused for is thrown.
    void take_snapshot(const Uuid& uuid, const std::string& name);
    void revert(const Uuid& uuid, const std::string& snapshot);
    Uuid clone(const Uuid& uuid, const std::string& snapshot = "");
    wire::proto::Instance show(const Uuid& uuid);
    wire::proto::Status status();
    std::uint64_t chip_commands() const { return chip_commands_; }  // so far; 0 if not tapped

    void kill_manager() { manager_->kill(); }
    void start_manager();
    // What the next vtpmmgrd finds in its environment besides: "NAME=value".
    void set_manager_environment(std::vector<std::string> variables) {
        manager_environment_ = std::move(variables);
    }
    Swtpm& chip() { return chip_; }
    std::filesystem::path vault() const { return directory() / "vault"; }

    // The command line and the environment in which the daemons run on the simulated Xen.
    std::vector<std::string> doorman_command(const std::string& device) const;
    static std::vector<std::string> environment();
    // What the next vtpmds start in the place of vtpm-engine.
    void set_engine(std::string program) { engine_ = std::move(program); }
    // For set_manager_environment(): the clock is off by as many seconds as the file says, as text.
    static std::vector<std::string> clock_from(const std::filesystem::path& file);
    // False where RLIMIT_MEMLOCK is small and cannot be raised: then engines run without
    // mlockall(), which is all that differs from the real ones.
    static bool locks_memory();
    std::string socket() const { return directory() / "manager"; }  // vtpmmgrd's

  private:
    wire::proto::Reply ask(wire::proto::Request request);

    TemporaryDirectory directory_;
    SimXen xen_;
    Swtpm chip_;
    std::atomic<std::uint64_t> chip_commands_ = 0;
    std::optional<SocketTap> tap_;
    std::optional<Child> manager_;
    std::vector<std::string> manager_environment_;
    std::string engine_;
    unsigned created_ = 0;
};

}  // namespace vtpm::fakes
