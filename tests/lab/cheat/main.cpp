// lab-cheat: what a guest of the lab does to its TPM's back end, from user space: it speaks the
// ring raw, through /dev/xen/{evtchn,gntalloc,xenbus}, with the kernel's own driver unloaded.
//
//   lab-cheat measure SECONDS     an honest guest's latencies at /dev/tpm0, driver loaded
//   lab-cheat begin               extends PCR 10
//   lab-cheat NAME SECONDS        cheats, then connects honestly and says what the TPM is
//   lab-cheat sleep               makes a key; says so first, for somebody to pause the guest
//   lab-cheat rsa                 makes keys until the end of the guest
//
// Prints NAME=VALUE lines. after=ok and pcr=... for a TPM that goes on as if nothing had been,
// after=CODE for one that answers an error.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <stdexcept>
#include <string>

#include "cheats.h"
#include "fakes/tpm_commands.h"

namespace {
using namespace vtpm;         // NOLINT: a main file
using namespace vtpm::cheat;  // NOLINT
namespace v20 = tpm_commands::v20;

const std::map<std::string, Cheat> cheats = {
    {"storm", storm},           {"storm-rsa", storm_rsa}, {"flood", flood},
    {"lengths", lengths},       {"states", states},       {"headers", headers},
    {"localities", localities}, {"pages", pages},         {"silent", silent},
    {"orders", orders},         {"rewrites", rewrites},   {"grants", grants},
    {"entries", entries},
};

std::string code_of(ByteView answer) {
    return answer.size() < 10 ? "none" : to_hex(answer.subspan(6, 4));
}

void look(Cheater& guest, Tally& tally) {
    const Bytes random = guest.transmit(v20::get_random(16));
    const Bytes pcr = guest.transmit(v20::pcr_read(10));
    const bool good = code_of(random) == "00000000" && code_of(pcr) == "00000000";
    tally["after"] = good ? "ok" : code_of(random) + "/" + code_of(pcr);
    if (good)
        tally["pcr"] = to_hex(ByteView(pcr).last(32));
}

void begin(Cheater& guest, Tally& tally) {
    tally["extend"] = code_of(guest.transmit(v20::pcr_extend(10, 0xA5)));
    look(guest, tally);
}

// Made to be paused for longer than anybody may wait.
void sleep(Cheater& guest, Tally& tally) {
    begin(guest, tally);
    const std::string before = tally["pcr"];
    required(guest.device().ring().submit(v20::create_primary_rsa(1), 0));
    std::puts("submitted");
    std::fflush(stdout);
    Bytes answer(xen::tpmif::max_packet);
    const auto size = guest.device().ring().wait(answer, std::chrono::hours(2));
    tally["key"] = size ? code_of(ByteView(answer).first(*size)) : size.error().context;
    look(guest, tally);
    tally["same"] = before == tally["pcr"] ? "1" : "0";
}

[[noreturn]] void rsa(Cheater& guest) {
    for (std::uint8_t i = 0;; ++i) {
        guest.transmit(v20::create_primary_rsa(i), std::chrono::hours(2));
        guest.forget_key();
    }
}

void run(const std::string& name, Milliseconds time, Tally& tally) {
    if (name == "measure")
        return measure(time, tally);
    Cheater guest;
    guest.connect();
    if (name == "begin")
        return begin(guest, tally);
    if (name == "sleep")
        return sleep(guest, tally);
    if (name == "rsa")
        rsa(guest);
    const auto cheat = cheats.find(name);
    if (cheat == cheats.end())
        throw std::runtime_error("no cheat is called \"" + name + "\"");
    cheat->second(guest, time, tally);
    required(guest.device().close(std::chrono::seconds(60)));
    guest.connect();
    look(guest, tally);
}

}  // namespace

int main(int argc, char** argv) {
    Tally tally;
    try {
        const std::string name = argc > 1 ? argv[1] : "";
        run(name, std::chrono::seconds(argc > 2 ? std::stoi(argv[2]) : 0), tally);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "lab-cheat: %s\n", error.what());
        return EXIT_FAILURE;
    }
    for (const auto& [name, value] : tally)
        std::printf("%s=%s\n", name.c_str(), value.c_str());
    return EXIT_SUCCESS;
}
