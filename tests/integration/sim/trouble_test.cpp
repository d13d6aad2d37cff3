// The host in trouble: disk, chip, clock, log. A guest that needs no write goes on; a write is
// refused or done; afterwards the TPM is as it was, in no failure mode, and no write that was
// acknowledged is lost.
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>

#include <array>
#include <future>

#include "recording_user.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;

namespace {

// The vault on a disk of its own, of this many bytes.
class SmallDisk {
  public:
    SmallDisk(SimHost& host, std::size_t bytes) : vault_(host.vault()) {
        const auto copy = host.directory() / "copy";
        host.kill_manager();
        std::filesystem::rename(vault_, copy);
        std::filesystem::create_directory(vault_);
        const auto options = "mode=700,size=" + std::to_string(bytes);
        REQUIRE(::mount("tmpfs", vault_.c_str(), "tmpfs", 0, options.c_str()) == 0);
        std::filesystem::copy(copy, vault_, std::filesystem::copy_options::recursive);
        host.start_manager();
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    ~SmallDisk() { ::umount2(vault_.c_str(), MNT_DETACH); }

    void fill() {
        const Fd file(::open(filler().c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        const Bytes block(4096, 0xFF);
        while (::write(file.get(), block.data(), block.size()) > 0) {
        }
    }
    void make_room() { std::filesystem::remove(filler()); }

  private:
    std::filesystem::path filler() const { return vault_ / "filler"; }

    std::filesystem::path vault_;
};

// While it lives, these system calls of vtpmmgrd's fail.
class FailingCalls {
  public:
    FailingCalls(pid_t pid, const std::string& calls, const std::string& error)
        : pid_(pid),
          strace_({"strace", "-f", "-o", "/dev/null", "-e", "trace=" + calls, "-e",
                   "inject=" + calls + ":error=" + error, "-p", std::to_string(pid)}) {
        REQUIRE(soon([&] { return status_line(pid_, "TracerPid") != "0"; }));
    }
    FailingCalls(const FailingCalls&) = delete;
    FailingCalls& operator=(const FailingCalls&) = delete;
    ~FailingCalls() {
        strace_.terminate();
        CHECK(strace_.wait(10s));
        CHECK(soon([&] { return status_line(pid_, "TracerPid") == "0"; }));
    }

  private:
    pid_t pid_;
    Child strace_;
};

// While it lives, the chip answers nothing.
class HungChip {
  public:
    explicit HungChip(const Swtpm& chip) : chip_(chip) { chip_.hang(true); }
    HungChip(const HungChip&) = delete;
    HungChip& operator=(const HungChip&) = delete;
    ~HungChip() { end(); }
    void end() const { chip_.hang(false); }

  private:
    const Swtpm& chip_;
};

// While it lives, standard error of whom we start is a pipe that is full.
class StoppedLog {
  public:
    StoppedLog() : before_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        reader_ = Fd(ends[0]);
        const Fd writer(ends[1]);
        REQUIRE(::fcntl(writer.get(), F_SETFL, O_NONBLOCK) == 0);
        const Bytes block(4096, '\n');
        while (::write(writer.get(), block.data(), block.size()) > 0) {
        }
        REQUIRE(::fcntl(writer.get(), F_SETFL, 0) == 0);
        REQUIRE(::dup2(writer.get(), STDERR_FILENO) == STDERR_FILENO);
    }
    StoppedLog(const StoppedLog&) = delete;
    StoppedLog& operator=(const StoppedLog&) = delete;
    ~StoppedLog() { ::dup2(before_.get(), STDERR_FILENO); }
    void close() { reader_.reset(); }

  private:
    Fd before_;
    Fd reader_;
};

}  // namespace

TEST_CASE("a full disk refuses writes, and harms nothing") {
    SimHost host;
    SmallDisk disk(host, 16UL << 20U);
    Users users(host);
    disk.fill();
    // What is written over needs no room, and for what grows there is some in the reserved log.
    int written = 0;
    while (written < 20 && users.v2_0().write())
        ++written;
    users.v2_0().grow();
    while (users.v2_0().write()) {
        if (++written == 20000)
            FAIL("the disk is never full");
    }
    CHECK(written >= 20);
    // A small state may have room where a large one has none.
    users.v1_2().write();
    CHECK_FALSE(users.v2_0().write());
    users.go_on();
    CHECK(host.status().reason().context().find("did not reach the disk") != std::string::npos);
    SECTION("room is made") {}
    SECTION("vtpmmgrd crashes, and starts on the full disk") {
        host.kill_manager();
        host.start_manager();
        CHECK(host.status().phase() == "open");
        users.go_on();
    }
    disk.make_room();
    CHECK(soon([&] { return users.v2_0().write() && users.v1_2().write(); }));
    CHECK_FALSE(host.status().has_reason());
    users.check();
    users.end();
}

TEST_CASE("a disk that cannot be written refuses writes, and harms nothing") {
    SimHost host;
    Users users(host);
    std::string calls = "pwrite64,fdatasync,fsync,ftruncate";
    std::string error = "EROFS";
    SECTION("it is read-only") {}
    SECTION("it is broken") {
        error = "EIO";
    }
    SECTION("it takes all, but cannot say that it is safe") {
        calls = "fdatasync,fsync";
        error = "EIO";
    }
    {
        const FailingCalls failing(host.manager_pid(), calls, error);
        for (auto& user : users.both) {
            CHECK_FALSE(user->write());
            user->go_on();
            CHECK_FALSE(user->write());
        }
        users.go_on();
    }
    users.check();
    users.end();
}

TEST_CASE("guests that write go on without a chip") {
    SimHost host;
    Users users(host);
    host.chip().kill();
    for (auto& user : users.both) {
        CHECK(user->write());
        user->go_on();
    }
    // And one starts.
    users.v2_0().next_life();
    host.chip().start();
    users.check();
    users.end();
}

TEST_CASE("a chip that is busy for seconds refuses writes or has them wait, and nothing else",
          "[.long]") {
    SimHost host;
    Users users(host);
    const auto begin = Clock::now();
    std::future<void> waits;
    const HungChip hung(host.chip());
    waits = std::async(std::launch::async, [&] { host.create(tpm::Version::v2_0); });
    std::this_thread::sleep_for(300ms);
    CHECK(waits.wait_for(0s) == std::future_status::timeout);
    users.go_on();
    SECTION("they wait as long as a guest of theirs does") {
        auto written = std::async(std::launch::async, [&] { return users.v2_0().try_write(); });
        CHECK_FALSE(users.v1_2().write());
        users.v1_2().go_on();
        CHECK_FALSE(users.v1_2().write());
        CHECK(written.wait_for(0s) == std::future_status::timeout);
        hung.end();
        const bool in_time = Clock::now() - begin < 5s;
        const bool done = users.v2_0().wrote(written.get());
        CHECK((done || !in_time));
    }
    SECTION("the longest is over") {
        CHECK_FALSE(users.v2_0().write());
        CHECK_FALSE(users.v2_0().write());
        users.v2_0().go_on();
        hung.end();
    }
    SECTION("a guest is destroyed meanwhile") {
        const auto destroyed = Clock::now();
        users.v2_0().end();
        CHECK(Clock::now() - destroyed < 10s);
        users.v1_2().go_on();
        hung.end();
        users.v2_0().start_again();
    }
    waits.get();
    users.check();
    users.end();
}

TEST_CASE("a clock that jumps harms nothing", "[preload]") {
    SimHost host;
    const auto file = host.directory() / "clock";
    const auto set = [&](long years) { std::ofstream(file) << years * 365 * 86400; };
    set(0);
    host.kill_manager();
    host.set_manager_environment(SimHost::clock_from(file));
    host.start_manager();
    Users users(host);
    for (const long years : {30L, -30L, 0L}) {
        const auto epoch = host.status().freshness().epoch();
        set(years);
        for (auto& user : users.both) {
            CHECK(user->write());
            user->go_on();
        }
        host.remove(host.create(tpm::Version::v2_0));
        CHECK(host.status().freshness().epoch() > epoch);
        CHECK_FALSE(host.status().has_reason());
        if (years != 0) {  // a restart while it is wrong
            host.kill_manager();
            host.start_manager();
            CHECK(host.status().phase() == "open");
            CHECK(soon([&] { return users.v2_0().write() && users.v1_2().write(); }));
        }
    }
    users.check();
    users.end();
}

TEST_CASE("a log that stands still or has gone keeps nobody waiting", "[.long]") {
    SimHost host;
    host.kill_manager();
    StoppedLog log;
    SECTION("it stands still") {}
    SECTION("it is gone") {
        log.close();
    }
    host.start_manager();
    Users users(host);
    for (int i = 0; i < 3; ++i) {
        host.kill_manager();
        CHECK_FALSE(users.v2_0().write());
        users.go_on();
        host.start_manager();
        CHECK(soon([&] { return users.v2_0().write() && users.v1_2().write(); }));
    }
    users.check();
    users.end();
}
