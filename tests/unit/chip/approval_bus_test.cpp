// Approvals, counters and latches with somebody on the bus.
#include <openssl/sha.h>

#include <algorithm>
#include <set>

#include "approval_scene.h"

using namespace vtpm;
using namespace vtpm::chip;
using namespace vtpm::chip_tests;
using fakes::in_memory;

namespace {

constexpr std::uint32_t nv_increment = 0x134;
constexpr std::uint32_t nv_read_lock = 0x14f;
constexpr std::uint32_t nv_read = 0x14e;
constexpr std::uint32_t nv_read_public = 0x169;
constexpr std::uint32_t start_session = 0x176;
constexpr std::uint32_t unseal_command = 0x15e;

Bytes answer_of(std::uint32_t code) {
    return ByteWriter().u16(0x8001).u32(10).u32(code).take();
}

// Where the session's attributes are in a command with one handle and one session.
std::uint8_t session_attributes(const Bytes& command) {
    ByteReader reader(command);
    (void)reader.bytes(10 + 4 + 4 + 4);  // header, handle, authorization size, session handle
    (void)reader.bytes(reader.u16().value_or(0));
    return reader.u8().value_or(0);
}

}  // namespace

TEST_CASE("what is bound does not show on the bus, and Unseal's answer is encrypted") {
    ApprovalScene s(p256, true);
    const Approval approval = s.approve_now();
    int seen = 0;
    int faults = 0;
    int unsalted = 0;
    std::set<std::uint32_t> in_use;
    std::size_t most_objects = 0;
    std::size_t most_sessions = 0;
    // No CHECK in here: this runs in the tap's thread.
    s.tap.meddle([&](Bytes& command, Bytes& answer) {
        ByteReader reader(answer);
        (void)reader.bytes(6);
        const bool good = reader.u32().value_or(1) == 0;
        const std::uint32_t handle = reader.u32().value_or(0);
        ByteReader words(command);
        (void)words.bytes(10);
        const std::uint32_t first = words.u32().value_or(0);
        switch (command_code(command)) {
            case unseal_command:
                ++seen;
                faults += (session_attributes(command) & 0x40U) != 0 ? 0 : 1;
                break;
            case start_session:
                unsalted += first != 0x40000007U ? 0 : 1;
                [[fallthrough]];
            case 0x131:  // CreatePrimary
            case 0x157:  // Load
            case 0x167:  // LoadExternal
                if (good)
                    in_use.insert(handle);
                break;
            case 0x165:  // FlushContext
                in_use.erase(first);
                break;
            default:
                break;
        }
        const auto objects = static_cast<std::size_t>(
            std::ranges::count_if(in_use, [](std::uint32_t one) { return one >> 24U == 0x80U; }));
        most_objects = std::max(most_objects, objects);
        most_sessions = std::max(most_sessions, in_use.size() - objects);
        return true;
    });
    CHECK(s.opens(approval));
    s.tap.meddle(nullptr);
    CHECK(seen == 1);
    CHECK(faults == 0);
    CHECK(unsalted == 0);
    CHECK(in_use.empty());
    CHECK(most_objects == 2);  // of three that a chip has room for
    CHECK(most_sessions == 1);
    const Bytes heard = s.tap.heard();
    const auto on_the_bus = [&](ByteView what) {
        return std::search(heard.begin(), heard.end(), what.begin(), what.end()) != heard.end();
    };
    CHECK_FALSE(on_the_bus(as_bytes(known)));
    CHECK_FALSE(on_the_bus(as_bytes(known).first(8)));
    CHECK(on_the_bus(reference));  // the tap does hear
    CHECK(tool(s.swtpm, "tpm2_getcap handles-transient").empty());
    CHECK(tool(s.swtpm, "tpm2_getcap handles-loaded-session").empty());
}

TEST_CASE("every answer of an unseal with approval, changed: an error or the right bytes") {
    ApprovalScene s(p256, true);
    const Approval approval = s.approve_now();
    int refused = 0;
    for (int nth = 0;; ++nth) {
        REQUIRE(nth < 80);
        int seen = 0;
        s.tap.meddle([&](Bytes&, Bytes& answer) {
            if (seen++ == nth)
                answer[answer.size() > 30 ? answer.size() - 5 : answer.size() - 1] ^= 1U;
            return true;
        });
        const auto secret = s.unseal(approval);
        s.tap.meddle(nullptr);
        INFO("answer " << nth);
        if (secret)
            CHECK(equal_constant_time(secret->view(), as_bytes(known)));
        refused += secret ? 0 : 1;
        if (seen <= nth)
            break;
        s.chip = pinned(s.tap.tcti());
    }
    CHECK(refused > 10);
    CHECK(s.opens(approval));
}

TEST_CASE("the connection cut at the nth command of an unseal with approval") {
    ApprovalScene s(p256, true);
    const Approval approval = s.approve_now();
    for (int nth = 0;; ++nth) {
        REQUIRE(nth < 80);
        int seen = 0;
        s.tap.meddle([&](Bytes&, Bytes&) { return seen++ != nth; });
        const auto secret = s.unseal(approval);
        s.tap.meddle(nullptr);
        INFO("cut at command " << nth);
        if (!secret)
            CHECK(secret.error().code == Errc::unavailable);
        CHECK(s.opens(approval));
        if (seen <= nth)
            break;
    }
}

TEST_CASE("lost answers of counters and latches leave what can be gone on with") {
    ApprovalScene s(p256, true);
    const auto counter = s.binding.approver->counter;
    const auto latch = *s.binding.latch;
    const auto cut_at_each = [&](const auto& operation, const auto& check) {
        for (int nth = 0;; ++nth) {
            REQUIRE(nth < 80);
            int seen = 0;
            s.tap.meddle([&](Bytes&, Bytes&) { return seen++ != nth; });
            const bool done = operation();
            s.tap.meddle(nullptr);
            INFO("cut at command " << nth);
            check(done);
            if (seen <= nth)
                break;
        }
    };
    std::uint64_t before = s.counter_value();
    cut_at_each([&] { return s.chip->increment_counter(counter).has_value(); },
                [&](bool done) {
                    const std::uint64_t now = s.counter_value();
                    CHECK((now == before + 1 || (now == before && !done)));
                    before = now;
                });
    const CellTag tag = filled(0x66);
    cut_at_each([&] { return s.chip->define_latch(tag).has_value(); },
                [&](bool) {
                    REQUIRE(fine(s.chip->remove_other_cells({0, tag})));
                });
    CHECK(tool(s.swtpm, "tpm2_getcap handles-nv-index | wc -l") == "2\n");
    cut_at_each([&] { return s.chip->close_latch(latch).has_value(); },
                [&](bool done) {
                    const auto closed = s.chip->latch_closed(latch);
                    REQUIRE(fine(closed));
                    CHECK((*closed || !done));
                });
    CHECK(*s.chip->latch_closed(latch));
}

TEST_CASE("an interposer cannot make up a counter's value or a latch's state") {
    ApprovalScene s(p256, true);
    const auto counter = s.binding.approver->counter;
    const auto latch = *s.binding.latch;
    const std::uint64_t value = s.counter_value();
    for (int back = 1; back < 70; back += 3) {
        s.tap.meddle([&](Bytes& command, Bytes& answer) {
            if (command_code(command) == nv_read &&
                answer.size() > 14U + static_cast<unsigned>(back))
                answer[answer.size() - static_cast<std::size_t>(back)] ^= 1U;
            return true;
        });
        CHECK_FALSE(s.chip->read_counter(counter));
    }
    // "It is locked", of one that is open.
    s.tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == nv_read)
            answer = answer_of(0x148);
        return true;
    });
    CHECK_FALSE(s.chip->latch_closed(latch));
    // The same with its public area, in which bit 28 says so.
    s.tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == nv_read)
            answer = answer_of(0x148);
        if (command_code(command) == nv_read_public && answer.size() > 20)
            answer[18] |= 0x10U;
        return true;
    });
    CHECK_FALSE(s.chip->latch_closed(latch));
    // And with the Name of such a public area: the chip does not agree that it is its own.
    s.tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == nv_read)
            answer = answer_of(0x148);
        if (command_code(command) != nv_read_public || answer.size() < 80)
            return true;
        answer[18] |= 0x10U;
        const std::size_t size = answer[11];  // of the public area, which begins at 12
        ::SHA256(answer.data() + 12, size, answer.data() + 12 + size + 4);
        return true;
    });
    CHECK_FALSE(s.chip->latch_closed(latch));
    // "It is closed now", when nothing was.
    bool swallowed = false;
    s.tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == nv_read_lock || command_code(command) == nv_increment) {
            answer = answer_of(0);
            swallowed = true;
        }
        return true;
    });
    CHECK_FALSE(s.chip->increment_counter(counter));
    CHECK(swallowed);
    s.tap.meddle(nullptr);
    CHECK(s.counter_value() <= value + 1);
    CHECK_FALSE(*s.chip->latch_closed(latch));
    CHECK(s.opens(s.approve_now()));
}

TEST_CASE("no copy of a bound secret stays in our memory") {
    ApprovalScene s(p256, true);
    const Approval approval = s.approve_now();
    // The needle is made of two halves, so that it is whole in `secret` only.
    SecretBytes secret(64);
    for (std::size_t i = 0; i < 64; ++i)
        secret.span()[i] = static_cast<std::uint8_t>(19 + i * 11 + (i % 5) * 31);
    const auto sealed = s.chip->seal(secret, s.binding);
    REQUIRE(fine(sealed));
    CHECK(in_memory(secret.view().first(32)) == 1);
    auto again = s.chip->unseal(*sealed, s.binding, &approval);
    REQUIRE(fine(again));
    CHECK(in_memory(secret.view().first(32)) == 2);
    again = SecretBytes();
    CHECK(in_memory(secret.view().first(32)) == 1);
}

TEST_CASE("nothing is sealed for an approver whose kind of key the chip does not take") {
    ApprovalScene s(rsa2048);
    for (const std::uint32_t code : {0x2c4U /* value */, 0x2c7U /* key size */}) {
        s.tap.meddle([&](Bytes& command, Bytes& answer) {
            if (command_code(command) == 0x167U)  // LoadExternal
                answer = answer_of(code);
            return true;
        });
        const auto refused = s.chip->seal(secret_of(known), s.binding);
        s.tap.meddle(nullptr);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Errc::unsupported);
        CHECK(refused.error().context.find("P-256") != std::string::npos);
        s.chip = pinned(s.tap.tcti());  // the answer was a lie: the key is in there
    }
}

TEST_CASE("a PCR that is extended between the policy and the unseal: try again") {
    ApprovalScene s;
    const Approval approval = s.approve(s.pcrs({0, 1}), s.counter_value());
    s.tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == unseal_command)
            answer = answer_of(0x128);
        return true;
    });
    const auto refused = s.unseal(approval);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::chip);
    CHECK(refused.error().next == NextAction::retry);
    s.tap.meddle(nullptr);
    CHECK(s.opens(approval));
}
