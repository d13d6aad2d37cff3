// What the tests of this directory share: one host, one guest, and looks at what is left.
#pragma once

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <thread>

#include "fakes/simxen/sim_guest.h"
#include "fakes/tpm_commands.h"
#include "vtpm/tpm/message.h"

namespace vtpm::fakes {

namespace v20 = tpm_commands::v20;

inline constexpr std::uint32_t success = 0;
inline constexpr std::uint32_t failure_mode = 0x101;    // TPM_RC_FAILURE
inline constexpr std::uint32_t command_size = 0x142;    // TPM_RC_COMMAND_SIZE
inline constexpr std::uint32_t nv_unavailable = 0x923;  // TPM_RC_NV_UNAVAILABLE
inline constexpr std::uint32_t canceled = 0x909;        // TPM_RC_CANCELED

// First in a test case: after all else of it has ended, we have no children, nor grandchildren that
// their parents left behind and that still run.
class NoProcessLeft {
  public:
    NoProcessLeft() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
    NoProcessLeft(const NoProcessLeft&) = delete;
    NoProcessLeft& operator=(const NoProcessLeft&) = delete;
    ~NoProcessLeft() {
        for (int i = 0; i < 1000 && ::waitpid(-1, nullptr, WNOHANG) >= 0; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        CHECK(children_of(::getpid()).empty());
    }
};

struct Bench {
    NoProcessLeft first;
    SimHost host;
    Uuid uuid = host.create(tpm::Version::v2_0);
    SimGuest guest{host, 5, uuid};
};

inline std::uint32_t code_of(ByteView answer) {
    const auto header = tpm::parse_header(answer);
    REQUIRE(header);
    CHECK(header->size == answer.size());
    return header->code;
}

inline void boot(SimGuest& guest) {
    const bool booted = guest.boot();
    INFO("refused: " << guest.refusal() << "; state " << guest.state());
    REQUIRE(booted);
}

inline std::uint32_t run(SimGuest& guest, const Bytes& command) {
    return code_of(guest.transmit(command));
}

// NV data: after the header, the parameter area's size and the data's own size
inline Bytes read_nv(SimGuest& guest, std::uint16_t size) {
    const Bytes answer = guest.transmit(v20::nv_read(size));
    REQUIRE(code_of(answer) == success);
    REQUIRE(answer.size() >= 16U + size);
    return {answer.begin() + 16, answer.begin() + 16 + size};
}

// All of a PCR's answer but its update counter.
inline Bytes read_pcr(SimGuest& guest, std::uint32_t pcr) {
    const Bytes answer = guest.transmit(v20::pcr_read(pcr));
    REQUIRE(code_of(answer) == success);
    return {answer.begin() + 14, answer.end()};
}

inline std::string status_line(pid_t pid, const std::string& key) {
    std::ifstream status("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(status, line);) {
        if (line.starts_with(key + ":"))
            return line.substr(key.size() + 2);
    }
    return "";
}

}  // namespace vtpm::fakes
