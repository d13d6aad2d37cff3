#include "vtpm/engine/libtpms_engine.h"

#include <libtpms/tpm_error.h>
#include <libtpms/tpm_types.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <ctime>
#include <thread>

#include "fakes/tpm_commands.h"
#include "vtpm/engine/time_of_day.h"
#include "vtpm/tpm/message.h"

// In the place of a newer libtpms's: the program's own is found first.
namespace {
std::vector<std::string> profiles;
}  // namespace
extern "C" TPM_RESULT TPMLIB_SetProfile(const char* profile) {
    profiles.emplace_back(profile == nullptr ? "null" : profile);
    return TPM_SUCCESS;
}

// In the place of the C library's: a host whose clock is set.
namespace {
std::atomic<std::time_t> clock_set_by = 0;
}  // namespace
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
    const auto result = static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
    if (clock == CLOCK_REALTIME)
        time->tv_sec += clock_set_by;
    return result;
}

using namespace vtpm;
using engine::LibtpmsEngine;
using engine::StateBlob;
using engine::StateKind;
using tpm::Version;
namespace v12 = tpm_commands::v12;
namespace v20 = tpm_commands::v20;

namespace {

// A power-on that has to work; says why if it does not.
void power_on(engine::Engine& tpm, engine::PowerOn start) {
    const auto on = tpm.power_on(std::move(start));
    INFO((on ? "" : on.error().context));
    REQUIRE(on);
}

struct Response {
    std::array<std::uint8_t, 4096> buffer{};
    std::size_t size = 0;
    std::uint32_t code() const {
        return tpm::parse_header(ByteView(buffer).first(size)).value().code;
    }
    ByteView body() const { return ByteView(buffer).subspan(10, size - 10); }
};

Response run(engine::Engine& tpm, const Bytes& command) {
    Response response;
    response.size = tpm.execute(command, 0, response.buffer);
    return response;
}

engine::PowerOn fresh(Version version) {
    engine::PowerOn start;
    start.version = version;
    start.manufacture = true;
    return start;
}

engine::PowerOn with(Version version, std::vector<StateBlob> blobs) {
    engine::PowerOn start;
    start.version = version;
    start.blobs = std::move(blobs);
    return start;
}

}  // namespace

TEST_CASE("a 2.0 TPM is manufactured once, and its state opens again") {
    std::vector<StateBlob> state;
    {
        LibtpmsEngine tpm;
        power_on(tpm, fresh(Version::v2_0));
        state = tpm.take_changes();
        REQUIRE(state.size() == 1);
        CHECK(state[0].kind == StateKind::permanent);
        REQUIRE(run(tpm, v20::nv_define(8)).code() == 0);
        auto changes = tpm.take_changes();
        REQUIRE(changes.size() == 1);
        state = std::move(changes);
        // A command that changes nothing asks for no write.
        CHECK(run(tpm, v20::pcr_read(16)).code() == 0);
        CHECK(tpm.take_changes().empty());
    }
    LibtpmsEngine tpm;
    power_on(tpm, with(Version::v2_0, std::move(state)));
    CHECK(run(tpm, v20::nv_define(8)).code() == 0x14c);  // TPM_RC_NV_DEFINED: it is still there
}

TEST_CASE("PCRs live as long as the power, across a hand-over but not across a cold start") {
    std::vector<StateBlob> state;
    SecretBytes memory;
    Bytes value;
    {
        LibtpmsEngine tpm;
        power_on(tpm, fresh(Version::v2_0));
        REQUIRE(run(tpm, v20::pcr_extend(16, 0x11)).code() == 0);
        const auto read = run(tpm, v20::pcr_read(16));
        value.assign(read.body().end() - 32, read.body().end());
        memory = tpm.volatile_state().value();
        state = tpm.take_changes();
    }
    std::vector<StateBlob> copy;
    for (const auto& blob : state)
        copy.push_back({blob.kind, blob.content->clone()});
    {
        LibtpmsEngine tpm;
        auto start = with(Version::v2_0, std::move(copy));
        start.volatile_state = std::move(memory);
        power_on(tpm, std::move(start));
        const auto read = run(tpm, v20::pcr_read(16));
        CHECK(equal_constant_time(read.body().last(32), value));
    }
    LibtpmsEngine tpm;
    power_on(tpm, with(Version::v2_0, std::move(state)));
    const auto read = run(tpm, v20::pcr_read(16));
    CHECK(equal_constant_time(read.body().last(32), Bytes(32, 0)));
}

TEST_CASE("state that is missing or damaged never becomes a new TPM") {
    LibtpmsEngine tpm;
    SECTION("missing") {
        CHECK_FALSE(tpm.power_on(with(Version::v2_0, {})));
    }
    SECTION("garbage") {
        std::vector<StateBlob> garbage;
        garbage.push_back({StateKind::permanent, SecretBytes::copy_of(Bytes(1300, 0x42))});
        CHECK_FALSE(tpm.power_on(with(Version::v2_0, std::move(garbage))));
    }
    SECTION("missing, 1.2") {
        CHECK_FALSE(tpm.power_on(with(Version::v1_2, {})));
    }
    CHECK(tpm.take_changes().empty());
    CHECK(run(tpm, v20::pcr_read(16)).size == 10);
}

TEST_CASE("a new 2.0 TPM has the profile that an old libtpms can read, if there are profiles") {
    profiles.clear();
    std::vector<StateBlob> state;
    {
        LibtpmsEngine tpm;
        power_on(tpm, fresh(Version::v2_0));
        CHECK(profiles == std::vector<std::string>{"null"});
        state = tpm.take_changes();
    }
    {
        LibtpmsEngine tpm;
        power_on(tpm, with(Version::v2_0, std::move(state)));
    }
    LibtpmsEngine tpm;
    power_on(tpm, fresh(Version::v1_2));  // whose libtpms refuses every profile
    CHECK(profiles.size() == 1);
}

TEST_CASE("a state of a format that libtpms does not know is refused by its number") {
    LibtpmsEngine tpm;
    std::vector<StateBlob> state;
    const Bytes newer = ByteWriter().u16(9).u32(0xAB364723).u16(8).bytes(Bytes(600, 0x5A)).take();
    state.push_back({StateKind::permanent, SecretBytes::copy_of(newer)});
    const auto on = tpm.power_on(with(Version::v2_0, std::move(state)));
    REQUIRE_FALSE(on);
    CHECK(on.error().context.find("has format 9, for a libtpms that knows 8") != std::string::npos);
}

TEST_CASE("a 1.2 TPM has an endorsement key and extends its PCRs") {
    LibtpmsEngine tpm;
    power_on(tpm, fresh(Version::v1_2));
    CHECK_FALSE(tpm.take_changes().empty());
    // TPM_ReadPubek: 256 bytes of modulus are somewhere in it
    const auto ek = run(tpm, v12::read_pubek());
    CHECK(ek.code() == 0);
    CHECK(ek.body().size() > 256);
    (void)tpm.take_changes();
    // What PCRs and random numbers cost: nothing on the disk.
    CHECK(run(tpm, v12::get_random(16)).code() == 0);
    CHECK(run(tpm, v12::extend(10, 0x11)).code() == 0);
    const auto read = run(tpm, v12::pcr_read(10));
    REQUIRE(read.code() == 0);
    CHECK_FALSE(equal_constant_time(read.body(), Bytes(20, 0)));
    CHECK(tpm.take_changes().empty());
}

TEST_CASE("malformed commands get the TPM's own errors") {
    LibtpmsEngine tpm;
    power_on(tpm, fresh(Version::v2_0));
    CHECK(run(tpm, from_hex("80010000000a00000000").value()).code() == 0x143);  // COMMAND_CODE
    CHECK(run(tpm, from_hex("99990000000a0000017e").value()).code() != 0);
    CHECK(run(tpm, from_hex("8001ffffffff0000017e").value()).code() != 0);
    CHECK(run(tpm, v20::pcr_read(16)).code() == 0);
}

TEST_CASE("a long command can be cancelled from another thread") {
    LibtpmsEngine tpm;
    power_on(tpm, fresh(Version::v2_0));
    std::atomic<bool> done = false;
    std::thread canceller([&] {
        while (!done)
            tpm.cancel();
    });
    std::uint32_t code = 0;
    for (std::uint8_t i = 0; i < 40 && code != 0x909; ++i) {
        code = run(tpm, v20::create_primary_rsa(i)).code();
    }
    done = true;
    canceller.join();
    CHECK(code == 0x909);  // TPM_RC_CANCELED
    CHECK(run(tpm, v20::pcr_read(16)).code() == 0);
}

namespace {

// TPM2_ReadPublic and TPM2_CreatePrimary: the TPM2B_PUBLIC, which comes first and after the handle
// and the size of the parameters.
Bytes public_area(engine::Engine& tpm, const Bytes& command, std::size_t before) {
    const auto answer = run(tpm, command);
    REQUIRE(answer.code() == 0);
    ByteReader reader(answer.body().subspan(before));
    const auto size = reader.u16().value();
    const auto area = reader.bytes(size).value();
    return {area.begin(), area.end()};
}

Bytes read_public(std::uint32_t handle) {
    return tpm_commands::command(0x8001, 0x173, ByteWriter().u32(handle).take());
}

// TPM2_GetCapability(TPM_CAP_PCRS): the banks that have PCRs.
std::vector<unsigned> banks_of(engine::Engine& tpm) {
    const auto answer =
        run(tpm, tpm_commands::command(0x8001, 0x17a, ByteWriter().u32(5).u32(0).u32(1).take()));
    REQUIRE(answer.code() == 0);
    ByteReader reader(answer.body().subspan(1 + 4));
    std::vector<unsigned> banks;
    for (auto left = reader.u32().value(); left > 0; --left) {
        const unsigned algorithm = reader.u16().value();
        const auto selected = reader.bytes(reader.u8().value()).value();
        if (selected[0] != 0)
            banks.push_back(algorithm);
    }
    return banks;
}

}  // namespace

TEST_CASE("a 2.0 TPM is made with the endorsement keys that its users look for") {
    using tpm::EndorsementKey;
    LibtpmsEngine tpm;
    auto start = fresh(Version::v2_0);
    start.has_firmware = GENERATE(false, true);
    const bool has_firmware = start.has_firmware;
    power_on(tpm, std::move(start));
    if (has_firmware)
        REQUIRE(run(tpm, tpm::startup_clear(Version::v2_0)).code() == 0);
    for (const auto key : {EndorsementKey::rsa_2048, EndorsementKey::ecc_p256}) {
        const auto there = public_area(tpm, read_public(tpm::persistent_handle(key)), 0);
        CHECK(there == public_area(tpm, tpm::create_endorsement_key(key), 8));
    }
    // Nothing else is left of it: all slots for objects are free but those that were just used.
    CHECK(run(tpm, read_public(0x81010003)).code() != 0);
    CHECK(run(tpm, read_public(0x80000002)).code() != 0);
}

TEST_CASE("a 2.0 TPM has the PCR banks that it was made with, for good") {
    std::vector<StateBlob> state;
    const auto banks = GENERATE(tpm::PcrBanks{tpm::PcrBank::sha256},
                                tpm::PcrBanks{tpm::PcrBank::sha1, tpm::PcrBank::sha384});
    std::vector<unsigned> expected;
    for (const auto bank : banks)
        expected.push_back(static_cast<unsigned>(bank));
    {
        LibtpmsEngine tpm;
        auto start = fresh(Version::v2_0);
        start.banks = banks;
        power_on(tpm, std::move(start));
        CHECK(banks_of(tpm) == expected);
        state = tpm.take_changes();
    }
    LibtpmsEngine tpm;
    power_on(tpm, with(Version::v2_0, std::move(state)));
    CHECK(banks_of(tpm) == expected);
}

TEST_CASE("a host whose clock is set back does not end a TPM 1.2") {
    const Bytes get_ticks = tpm_commands::command(0x00C1, 0xF1, {});
    LibtpmsEngine tpm;
    power_on(tpm, fresh(Version::v1_2));
    // 2100 and later: libtpms' seconds end in 2106, and begin again.
    for (const std::time_t set_by : {0L, -10L, 3600L, -1'000'000'000L, 3'000'000'000L, 0L}) {
        clock_set_by = set_by;
        CHECK(run(tpm, get_ticks).code() == 0);
    }
    clock_set_by = 0;
}

TEST_CASE("the ticks of a TPM 1.2 go on while the clock is set") {
    const Bytes get_ticks = tpm_commands::command(0x00C1, 0xF1, {});
    LibtpmsEngine tpm;
    power_on(tpm, fresh(Version::v1_2));
    std::uint64_t before = 0;
    for (const std::time_t set_by : {0, -5, -5, 0}) {
        clock_set_by = set_by;
        const auto answer = run(tpm, get_ticks);
        REQUIRE(answer.code() == 0);
        const auto ticks = ByteReader(answer.body().subspan(2)).u64().value();  // after the tag
        CHECK(ticks > before);
        before = ticks;
    }
    clock_set_by = 0;
}

namespace {

// What a TPM leaves to the next process, in memory that both have.
struct Left {
    std::uint64_t time_of_day, ticks;
    std::size_t lasting, of_memory;
    std::array<std::uint8_t, 1 << 20> bytes;
};

// TPM_GetTicks or TPM2_ReadClock, and the time in its answer; 0: none.
std::uint64_t ticks_of(engine::Engine& tpm, Version version) {
    const bool old = version == Version::v1_2;
    const auto answer =
        run(tpm, tpm_commands::command(old ? 0x00C1 : 0x8001, old ? 0xF1 : 0x181, {}));
    const auto ticks =
        answer.code() == 0 ? ByteReader(answer.body().subspan(old ? 2 : 8)).u64() : 0;
    return ticks.value_or(0);
}

// A process on a host whose clock is set by so much.
void live_elsewhere(Version version, std::time_t set_by, Left& left) {
    clock_set_by = set_by;
    LibtpmsEngine tpm;
    if (!tpm.power_on(fresh(version)))
        return;
    left.ticks = ticks_of(tpm, version);
    const auto memory = tpm.volatile_state().value();
    const auto lasting = tpm.take_changes().at(0).content->clone();
    left.time_of_day = engine::time_of_day();
    left.lasting = lasting.size();
    left.of_memory = memory.size();
    const auto rest = std::copy(lasting.view().begin(), lasting.view().end(), left.bytes.begin());
    std::copy(memory.view().begin(), memory.view().end(), rest);
}

}  // namespace

// To libtpms' TPM 2.0 it is all one: it has a clock of its own, and takes it along.
TEST_CASE("a TPM goes on in another process, on a host whose clock is behind") {
    const auto version = GENERATE(Version::v1_2, Version::v2_0);
    auto& left = *static_cast<Left*>(
        ::mmap(nullptr, sizeof(Left), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    const auto elsewhere = ::fork();
    if (elsewhere == 0) {
        live_elsewhere(version, 1'000'000, left);
        ::_exit(0);
    }
    REQUIRE(::waitpid(elsewhere, nullptr, 0) == elsewhere);
    REQUIRE(left.ticks > 0);

    const auto all = ByteView(left.bytes);
    std::vector<StateBlob> lasting;
    lasting.push_back({StateKind::permanent, SecretBytes::copy_of(all.first(left.lasting))});
    auto start = with(version, std::move(lasting));
    start.volatile_state = SecretBytes::copy_of(all.subspan(left.lasting, left.of_memory));
    start.time_of_day = left.time_of_day;
    LibtpmsEngine tpm;
    power_on(tpm, std::move(start));
    CHECK(ticks_of(tpm, version) >= left.ticks);
    ::munmap(&left, sizeof(Left));
}
