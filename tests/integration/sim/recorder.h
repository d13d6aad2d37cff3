// Recorder: a guest with a TPM 2.0 that keeps a log of what it has put into a PCR.
#pragma once

#include <openssl/evp.h>
#include <signal.h>

#include "bench.h"

namespace vtpm::fakes {

inline constexpr std::uint32_t pcr = 10;
inline constexpr int stopped = 75 << 8;
inline constexpr std::size_t digest_size = 32;

struct Recorder : Bench {
    Recorder() { guest.serve_as_unit(); }

    void begin() {
        boot(guest);
        expected = digest();
        zero = expected;
        extend();
    }
    Bytes digest() { return digest_of(guest); }
    static Bytes digest_of(SimGuest& one) {
        const Bytes answer = read_pcr(one, pcr);
        return {answer.end() - digest_size, answer.end()};
    }
    void note(std::uint8_t filler) {
        Bytes both = expected;
        both.resize(2 * digest_size, filler);
        ::EVP_Digest(both.data(), both.size(), expected.data(), nullptr, EVP_sha256(), nullptr);
    }
    void extend() {
        const auto filler = static_cast<std::uint8_t>(++extends);
        REQUIRE(run(guest, v20::pcr_extend(pcr, filler)) == success);
        note(filler);
    }
    void kill_vtpmd() {
        ::kill(guest.vtpmd().pid(), SIGKILL);
        (void)guest.vtpmd().wait(std::chrono::seconds(10));
    }
    void restart_vtpmd() {
        kill_vtpmd();
        guest.start_vtpmd();
    }
    Bytes expected;
    Bytes zero;
    unsigned extends = 0;
};

}  // namespace vtpm::fakes
