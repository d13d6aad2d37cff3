// TPM Library Part 1 clause 19.8: what a guest's power-offs do to the count of failed
// authorizations. A power cut after a guarded object was used counts as a failure; the host's way
// of ending a TPM must not.
#include <array>
#include <catch2/catch.hpp>

#include "fakes/tpm_commands.h"
#include "vtpm/engine/libtpms_engine.h"
#include "vtpm/tpm/message.h"

using namespace vtpm;
using engine::LibtpmsEngine;
using engine::StateBlob;
using engine::StateKind;
namespace v20 = tpm_commands::v20;

namespace {

constexpr std::uint32_t auth_fail = 0x98E;  // TPM_RC_AUTH_FAIL of session 1
constexpr std::uint32_t retry = 0x922;      // TPM_RC_RETRY

Bytes with_password(std::uint32_t code, const Bytes& handles, std::string_view password,
                    const Bytes& parameters) {
    const auto size = static_cast<std::uint16_t>(password.size());
    return tpm_commands::command(0x8002, code,
                                 ByteWriter()
                                     .bytes(handles)
                                     .u32(9U + size)
                                     .u32(0x40000009)  // TPM_RS_PW
                                     .u16(0)
                                     .u8(0)
                                     .u16(size)
                                     .bytes(as_bytes(password))
                                     .bytes(parameters)
                                     .take());
}

// An index that is guarded: AUTHWRITE and AUTHREAD without NO_DA
Bytes define_guarded(std::string_view password) {
    const Bytes area =
        ByteWriter().u32(v20::nv_index).u16(0x0B).u32(0x00040004).u16(0).u16(8).take();
    return v20::authorised(0x12A, ByteWriter().u32(v20::owner).take(),
                           ByteWriter()
                               .u16(static_cast<std::uint16_t>(password.size()))
                               .bytes(as_bytes(password))
                               .u16(static_cast<std::uint16_t>(area.size()))
                               .bytes(area)
                               .take());
}

Bytes shutdown(std::uint16_t type) {
    return tpm_commands::command(0x8001, 0x145, ByteWriter().u16(type).take());
}

// One TPM over many power cycles.
class Cycled {
  public:
    Cycled() {
        engine::PowerOn start;
        start.version = tpm::Version::v2_0;
        start.manufacture = true;
        REQUIRE(tpm_.power_on(std::move(start)));
        REQUIRE(run(define_guarded("secret")) == 0);
        REQUIRE(write("secret") == 0);
        keep();
    }

    std::uint32_t run(const Bytes& command) {
        const auto size = tpm_.execute(command, 0, answer_);
        return tpm::parse_header(ByteView(answer_).first(size)).value().code;
    }
    // The first use of a guarded object since power-on is answered with "again", once it is noted.
    std::uint32_t write(std::string_view password) {
        const Bytes command =
            with_password(0x137, ByteWriter().u32(v20::nv_index).u32(v20::nv_index).take(),
                          password, ByteWriter().u16(8).bytes(Bytes(8, 0x5A)).u16(0).take());
        const auto code = run(command);
        return code == retry ? run(command) : code;
    }
    // TPM2_GetCapability(TPM_CAP_TPM_PROPERTIES, TPM_PT_LOCKOUT_COUNTER)
    std::uint32_t failures() {
        REQUIRE(run(tpm_commands::command(0x8001, 0x17A,
                                          ByteWriter().u32(6).u32(0x20E).u32(1).take())) == 0);
        return ByteReader(ByteView(answer_).subspan(10 + 1 + 4 + 4 + 4)).u32().value();
    }

    void power_off_and_on() {
        tpm_.power_off();
        keep();
        power_on();
    }
    // Nothing is written any more, as when the engine is killed.
    void power_cut() {
        keep();
        tpm_.power_off();
        (void)tpm_.take_changes();
        power_on();
    }

  private:
    void keep() {
        for (auto& change : tpm_.take_changes()) {
            if (change.kind == StateKind::permanent)
                permanent_ = std::move(*change.content);
        }
    }
    void power_on() {
        engine::PowerOn start;
        start.version = tpm::Version::v2_0;
        start.blobs.push_back({StateKind::permanent, permanent_.clone()});
        REQUIRE(tpm_.power_on(std::move(start)));
        keep();
    }

    LibtpmsEngine tpm_;
    SecretBytes permanent_;
    std::array<std::uint8_t, 4096> answer_{};
};

}  // namespace

TEST_CASE("a guest that is powered off again and again is not locked out for it") {
    Cycled tpm;
    for (int i = 0; i < 5; ++i) {
        REQUIRE(tpm.write("secret") == 0);
        tpm.power_off_and_on();
        CHECK(tpm.failures() == 0);
    }
}

TEST_CASE("a wrong password counts, and no power-off takes it back or adds to it") {
    Cycled tpm;
    REQUIRE(tpm.write("wrong") == auth_fail);
    for (int i = 0; i < 3; ++i) {
        CHECK(tpm.failures() == 1);
        REQUIRE(tpm.write("secret") == 0);
        tpm.power_off_and_on();
    }
    CHECK(tpm.failures() == 1);
}

TEST_CASE("a power cut after a guarded index was used counts as one failure") {
    Cycled tpm;
    REQUIRE(tpm.write("secret") == 0);
    tpm.power_cut();
    CHECK(tpm.failures() == 1);
    tpm.power_cut();  // nothing was used since
    CHECK(tpm.failures() == 1);
}

TEST_CASE("a shutdown that the TPM has refused is none") {
    Cycled tpm;
    REQUIRE(tpm.write("secret") == 0);
    CHECK(tpm.run(shutdown(0x1234)) != 0);
    tpm.power_off_and_on();
    CHECK(tpm.failures() == 0);
}

TEST_CASE("a guest's own shutdown stands") {
    Cycled tpm;
    REQUIRE(tpm.write("secret") == 0);
    REQUIRE(tpm.run(shutdown(0)) == 0);
    tpm.power_off_and_on();
    CHECK(tpm.failures() == 0);
}
