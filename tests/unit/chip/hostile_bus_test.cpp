// EsysChip against a real swtpm with somebody in between, and against busy and failing chips.
#include <openssl/evp.h>

#include <algorithm>
#include <atomic>

#include "scene.h"

using namespace vtpm;
using namespace vtpm::chip_tests;
using chip::EsysChip;
using fakes::in_memory;
using fakes::SocketTap;
using fakes::Swtpm;
using fakes::TemporaryDirectory;

TEST_CASE("the connection cut at the nth command gives an error, never a crash or wrong bytes") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    SocketTap tap(directory.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    int completed = 0;
    for (int nth = 1; nth <= 40 && completed < 2; ++nth) {
        std::atomic<int> seen = 0;
        tap.meddle([&](Bytes&, Bytes&) { return ++seen != nth; });
        const auto answer = chip->unseal(*sealed, {}, nullptr);
        if (answer) {
            CHECK(equal_constant_time(answer->view(), as_bytes(known)));
            if (seen < nth)
                ++completed;
        } else {
            INFO(answer.error().context);
            CHECK(answer.error().code == Errc::unavailable);
        }
        tap.meddle(nullptr);
        INFO("cut at command " << nth);
        CHECK(fine(chip->unseal(*sealed, {}, nullptr)));
    }
    CHECK(completed > 0);
}

TEST_CASE("an interposer cannot read or change what passes") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    SocketTap tap(directory.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    REQUIRE(fine(chip->unseal(*sealed, {}, nullptr)));
    const auto random = chip->random(32);
    REQUIRE(fine(random));
    const Bytes heard = tap.heard();
    REQUIRE(heard.size() > 2000);
    const auto on_the_bus = [&](ByteView what) {
        return std::search(heard.begin(), heard.end(), what.begin(), what.end()) != heard.end();
    };
    CHECK_FALSE(on_the_bus(as_bytes(known)));
    CHECK_FALSE(on_the_bus(as_bytes(known).first(8)));
    CHECK_FALSE(on_the_bus(random->view()));
    CHECK(on_the_bus(sealed->public_area));  // the tap does hear

    for (const std::uint32_t code : {0x15eU /* Unseal */, 0x157U /* Load */, 0x17bU}) {
        int changed = 0;
        for (int back = 1; back < 90; back += 4) {
            tap.meddle([&](Bytes& command, Bytes& answer) {
                if (command_code(command) != code || answer.size() < 14)
                    return true;
                const auto at = answer.size() - static_cast<std::size_t>(back);
                if (at < 14 || at >= answer.size())
                    return true;
                answer[at] ^= 1U;
                ++changed;
                return true;
            });
            const bool ok = code == 0x17bU ? chip->random(32).has_value()
                                           : chip->unseal(*sealed, {}, nullptr).has_value();
            if (changed > 0) {
                INFO("command " << code << ", byte " << back << " from the end");
                CHECK_FALSE(ok);
            }
            changed = 0;
        }
    }
    tap.meddle(nullptr);
    CHECK(fine(chip->unseal(*sealed, {}, nullptr)));
}

TEST_CASE("every session is salted, and secrets travel in sessions only") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    SocketTap tap(directory.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    int sessions = 0;
    int secrets = 0;
    int faults = 0;
    // No CHECK in here: this runs in the tap's thread.
    tap.meddle([&](Bytes& command, Bytes&) {
        ByteReader reader(command);
        const auto tag = reader.u16().value_or(0);
        (void)reader.u32();
        switch (reader.u32().value_or(0)) {
            case 0x176: {  // StartAuthSession: tpmKey, bind, nonceCaller, encryptedSalt
                ++sessions;
                const auto key = reader.u32().value_or(0);
                (void)reader.u32();
                (void)reader.bytes(reader.u16().value_or(0));
                const bool salted = key != 0x40000007U && reader.u16().value_or(0) > 64;
                faults += salted ? 0 : 1;
                break;
            }
            case 0x153:  // Create
            case 0x157:  // Load
            case 0x15e:  // Unseal
            case 0x17b:  // GetRandom
                ++secrets;
                faults += tag == 0x8002U ? 0 : 1;
                break;
            default:
                break;
        }
        return true;
    });
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    CHECK(fine(chip->unseal(*sealed, {}, nullptr)));
    CHECK(fine(chip->random(32)));
    tap.meddle(nullptr);
    CHECK(sessions == 6);
    CHECK(secrets == 6);
    CHECK(faults == 0);
}

TEST_CASE("an interposer cannot put its own storage root key in") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path() / "1");
    const Swtpm evil(directory.path() / "2");
    SocketTap tap(directory.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    Bytes foreign;
    {
        SocketTap second(directory.path() / "2", evil.socket());
        second.meddle([&](Bytes& command, Bytes& answer) {
            if (command_code(command) == 0x131U)
                foreign = answer;  // CreatePrimary
            return true;
        });
        REQUIRE(fine(opened(second.tcti())->identify()));
        second.meddle(nullptr);
    }
    REQUIRE(foreign.size() > 100);
    tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == 0x131U)
            answer = foreign;
        return true;
    });
    const auto fooled = chip->unseal(*sealed, {}, nullptr);
    REQUIRE_FALSE(fooled);
    CHECK(fooled.error().code == Errc::wrong_chip);
    CHECK(chip->seal(secret_of(known), {}).error().code == Errc::wrong_chip);
    CHECK(chip->random(8).error().code == Errc::wrong_chip);
    tap.meddle(nullptr);
    CHECK(fine(chip->unseal(*sealed, {}, nullptr)));
}

TEST_CASE("a chip that is busy is asked again; one that stays so is given up") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    SocketTap tap(directory.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    const Bytes retry{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x22};
    // ReadPublic changes nothing in the chip, so that answering for it is faithful.
    int left = 12;
    tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == 0x173U && left-- > 0)
            answer = retry;
        return true;
    });
    CHECK(fine(chip->random(8)));
    left = 1'000'000;
    const auto given_up = chip->random(8);
    REQUIRE_FALSE(given_up);
    CHECK(given_up.error().code == Errc::chip);
    CHECK(given_up.error().next == NextAction::retry_later);

    const auto answered_with = [&](std::uint32_t code) {
        tap.meddle([code](Bytes& command, Bytes& answer) {
            if (command_code(command) == 0x173U) {
                answer = ByteWriter().u16(0x8001).u32(10).u32(code).take();
            }
            return true;
        });
        return chip->random(8).error();
    };
    CHECK(answered_with(0x921).context.find("lockout") != std::string::npos);
    CHECK(answered_with(0x920).next == NextAction::retry_later);
    CHECK(answered_with(0x101).next == NextAction::ask_operator);
    CHECK(answered_with(0x143).code == Errc::unsupported);
    CHECK(answered_with(0x1ff).code == Errc::chip);
    tap.meddle(nullptr);
    CHECK(fine(chip->random(8)));
}

TEST_CASE("nothing of ours stays in the chip, and leftovers are cleared") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    SocketTap tap(directory.path(), swtpm.socket());
    const auto left = [&] {
        return tool(swtpm, "tpm2_getcap handles-transient") +
               tool(swtpm, "tpm2_getcap handles-loaded-session");
    };
    const auto chip = pinned(tap.tcti());
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    REQUIRE(fine(chip->unseal(*sealed, {}, nullptr)));
    auto bad = *sealed;
    bad.private_area.back() ^= 1U;
    REQUIRE_FALSE(chip->unseal(bad, {}, nullptr));
    CHECK(left().empty());

    // Cut between Unseal and the flushes: key, object and sessions stay behind.
    tap.meddle([](Bytes& command, Bytes&) { return command_code(command) != 0x15eU; });
    REQUIRE_FALSE(chip->unseal(*sealed, {}, nullptr));
    CHECK_FALSE(left().empty());
    tap.meddle(nullptr);
    for (int i = 0; i < 5; ++i)
        REQUIRE(fine(chip->unseal(*sealed, {}, nullptr)));
    CHECK(left().empty());
}

TEST_CASE("no copy of a secret stays in our memory") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    // The needle is made of two halves, so that it is whole in `secret` only.
    SecretBytes secret(64);
    for (std::size_t i = 0; i < 64; ++i) {
        secret.span()[i] = static_cast<std::uint8_t>(17 + i * 7 + (i % 3) * 29);
    }
    const auto sealed = chip->seal(secret, {});
    REQUIRE(fine(sealed));
    CHECK(in_memory(secret.view().first(32)) == 1);
    auto again = chip->unseal(*sealed, {}, nullptr);
    REQUIRE(fine(again));
    CHECK(in_memory(secret.view().first(32)) == 2);
    again = SecretBytes();
    CHECK(in_memory(secret.view().first(32)) == 1);
}
