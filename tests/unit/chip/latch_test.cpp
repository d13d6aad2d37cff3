// Counters and the boot latch on a real (software) TPM, and what its owner can do to them.
#include <algorithm>

#include "approval_scene.h"
#include "vtpm/chip/policy.h"

using namespace vtpm;
using namespace vtpm::chip;
using namespace vtpm::chip_tests;
using fakes::SocketTap;
using fakes::Swtpm;
using fakes::TemporaryDirectory;

namespace {

constexpr std::string_view counter_attributes = "authread|ownerwrite|no_da|nt=counter";
constexpr std::string_view latch_attributes = "authread|ownerwrite|no_da|read_stclear|nt=counter";

std::string hex_index(CellIndex index) {
    return "0x" + to_hex(ByteWriter().u32(index).written());
}

// What root does with tpm2-tools: removes the index and makes another of this description.
void redefine(const Swtpm& swtpm, const TemporaryDirectory& place, CellIndex index,
              const CellTag& tag, std::string_view attributes) {
    const std::string policy = (place.path() / "tag").string();
    write_file(policy, Bytes(tag.begin(), tag.end()));
    tool(swtpm, "tpm2_nvundefine -C o " + hex_index(index));
    tool(swtpm, "tpm2_nvdefine -C o " + hex_index(index) + " -s 8 -g sha256 -a '" +
                    std::string(attributes) + "' -L " + policy);
}

void increment_by_tool(const Swtpm& swtpm, CellIndex index) {
    tool(swtpm, "tpm2_nvincrement -C o " + hex_index(index));
}

// What is bound to a latch only, and root, who has every file and goes past our software.
struct LatchScene {
    LatchScene() : swtpm(place.path()), chip(pinned(swtpm.tcti())) {
        auto made = chip->define_latch(latch_tag);
        REQUIRE(fine(made));
        latch = *made;
        binding.latch = latch;
        auto object = chip->seal(secret_of(known), binding);
        REQUIRE(fine(object));
        sealed = *object;
    }
    Result<SecretBytes> unseal() { return chip->unseal(sealed, binding, nullptr); }
    bool opens() {
        const auto secret = unseal();
        return fine(secret) && equal_constant_time(secret->view(), as_bytes(known));
    }
    void reset_chip() {
        swtpm.restart();
        chip = pinned(swtpm.tcti());
    }
    bool opens_for_root() {
        chip.reset();
        const auto at = [&](const char* name) { return (place.path() / name).string(); };
        write_file(at("pub"), sealed.public_area);
        write_file(at("priv"), sealed.private_area);
        write_file(at("operand"), ByteWriter().u64(latch.value).take());
        tool(swtpm, "tpm2_flushcontext -t");
        tool(swtpm, "tpm2_load -C " + srk_by_tools(swtpm, place.path()) + " -u " + at("pub") +
                        " -r " + at("priv") + " -c " + at("obj"));
        tool(swtpm, "tpm2_flushcontext -t");
        tool(swtpm, "tpm2_startauthsession --policy-session -S " + at("session"));
        const std::string index = hex_index(latch.index);
        tool(swtpm, "tpm2_policynv -S " + at("session") + " -C " + index + " -i " + at("operand") +
                        " " + index + " eq || true");
        tool(swtpm, "tpm2_policycommandcode -S " + at("session") + " TPM2_CC_Unseal");
        const std::string got = tool(
            swtpm, "tpm2_unseal -c " + at("obj") + " -p session:" + at("session") + " || true");
        tool(swtpm, "tpm2_flushcontext " + at("session"));
        tool(swtpm, "tpm2_flushcontext -t");
        chip = pinned(swtpm.tcti());
        return got == known;
    }

    TemporaryDirectory place;
    Swtpm swtpm;
    std::unique_ptr<EsysChip> chip;
    Latch latch;
    Binding binding;
    SealedObject sealed;
};

}  // namespace

TEST_CASE("a closed latch keeps the keys until the chip is reset") {
    LatchScene s;
    CHECK_FALSE(*s.chip->latch_closed(s.latch));
    CHECK(s.opens());
    CHECK(s.opens_for_root());
    for (int i = 0; i < 2; ++i) {
        REQUIRE(fine(s.chip->close_latch(s.latch)));
        CHECK(*s.chip->latch_closed(s.latch));
        const auto refused = s.unseal();
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Errc::latched);
        CHECK(refused.error().next == NextAction::ask_operator);
        CHECK(refused.error().context.find("reboot") != std::string::npos);
        CHECK_FALSE(s.opens_for_root());
    }
    // The owner's increments do not open it, and cannot be taken back.
    const auto later = s.chip->seal(secret_of("sealed while it is closed"), s.binding);
    REQUIRE(fine(later));
    s.reset_chip();
    CHECK_FALSE(*s.chip->latch_closed(s.latch));
    CHECK(s.opens());
    CHECK(s.chip->unseal(*later, s.binding, nullptr)->size() == 25);
    increment_by_tool(s.swtpm, s.latch.index);
    CHECK(s.unseal().error().code == Errc::latched);
    CHECK(s.unseal().error().context.find("for good") != std::string::npos);
    CHECK(s.chip->latch_closed(s.latch).error().code == Errc::wrong_cell);
    CHECK(s.chip->seal(secret_of(known), s.binding).error().code == Errc::wrong_cell);
}

TEST_CASE("a latch that root removes and makes again stays shut for good") {
    LatchScene s;
    REQUIRE(fine(s.chip->close_latch(s.latch)));
    SECTION("removed") {
        tool(s.swtpm, "tpm2_nvundefine -C o " + hex_index(s.latch.index));
        CHECK(s.unseal().error().code == Errc::latched);
        CHECK(s.chip->latch_closed(s.latch).error().code == Errc::wrong_cell);
        CHECK(s.chip->close_latch(s.latch).error().code == Errc::wrong_cell);
    }
    SECTION("with the same name: a new counter begins above every old one") {
        redefine(s.swtpm, s.place, s.latch.index, s.latch.tag, latch_attributes);
        CHECK_FALSE(s.opens_for_root());
        for (int i = 0; i < 5; ++i) {
            increment_by_tool(s.swtpm, s.latch.index);
            CHECK_FALSE(s.opens_for_root());
            CHECK(s.unseal().error().code == Errc::latched);
        }
        // It is the same in all but its value: only that keeps it shut.
        const auto other = s.chip->define_latch(s.latch.tag);
        REQUIRE(fine(other));
        CHECK(other->value > s.latch.value);
        const auto is = tool(s.swtpm, "tpm2_nvreadpublic " + hex_index(s.latch.index));
        const auto one = tool(s.swtpm, "tpm2_nvreadpublic " + hex_index(other->index));
        CHECK(is.substr(is.find("hash")) != "");
        const auto attributes = [](const std::string& text) {
            const auto at = text.find("friendly: ");
            return text.substr(at, text.find('\n', at) - at);
        };
        CHECK(attributes(is) == attributes(one));
    }
    SECTION("as an ordinary index with the old value in it") {
        redefine(s.swtpm, s.place, s.latch.index, s.latch.tag,
                 "authread|ownerwrite|no_da|read_stclear");
        const std::string file = (s.place.path() / "value").string();
        write_file(file, ByteWriter().u64(s.latch.value).take());
        tool(s.swtpm, "tpm2_nvwrite -C o " + hex_index(s.latch.index) + " -i " + file);
        CHECK(s.unseal().error().code == Errc::latched);
        CHECK_FALSE(s.opens_for_root());
    }
    SECTION("as a counter that cannot be locked, or of another tag") {
        redefine(s.swtpm, s.place, s.latch.index, s.latch.tag, counter_attributes);
        increment_by_tool(s.swtpm, s.latch.index);
        CHECK(s.unseal().error().code == Errc::latched);
        CHECK_FALSE(s.opens_for_root());
        redefine(s.swtpm, s.place, s.latch.index, filled(9), latch_attributes);
        increment_by_tool(s.swtpm, s.latch.index);
        CHECK(s.unseal().error().code == Errc::latched);
        CHECK(s.chip->latch_closed(s.latch).error().code == Errc::wrong_cell);
    }
    s.reset_chip();
    CHECK(s.unseal().error().code == Errc::latched);
    CHECK_FALSE(s.opens_for_root());
}

TEST_CASE("a counter that root removes and makes again has revoked everything") {
    ApprovalScene s;
    const auto counter = s.binding.approver->counter;
    for (int i = 0; i < 3; ++i)
        REQUIRE(fine(s.chip->increment_counter(counter)));
    const std::uint64_t old = s.counter_value();
    const Approval now = s.approve_now();
    CHECK(s.opens(now));
    SECTION("removed") {
        tool(s.swtpm, "tpm2_nvundefine -C o " + hex_index(counter.index));
        CHECK(s.chip->read_counter(counter).error().code == Errc::wrong_cell);
        CHECK(s.chip->increment_counter(counter).error().code == Errc::wrong_cell);
    }
    SECTION("made again") {
        redefine(s.swtpm, s.directory, counter.index, counter.tag, counter_attributes);
        CHECK(s.chip->read_counter(counter).error().code == Errc::wrong_cell);  // no value yet
        CHECK(s.refusal(now) == Errc::not_approved);
        for (int i = 1; i < 4; ++i) {
            increment_by_tool(s.swtpm, counter.index);
            CHECK(s.counter_value() >= old + static_cast<std::uint64_t>(i));
            CHECK(s.refusal(now) == Errc::not_approved);
        }
        // It is the same in all but its value: a longer approval opens.
        CHECK(s.opens(s.approve(now.pcrs, s.counter_value())));
    }
    SECTION("as an ordinary index with the old value in it") {
        redefine(s.swtpm, s.directory, counter.index, counter.tag, "authread|ownerwrite|no_da");
        const std::string file = (s.directory.path() / "value").string();
        write_file(file, ByteWriter().u64(old).take());
        tool(s.swtpm, "tpm2_nvwrite -C o " + hex_index(counter.index) + " -i " + file);
        CHECK(s.chip->read_counter(counter).error().code == Errc::wrong_cell);
    }
    CHECK(s.refusal(now) == Errc::not_approved);
    CHECK(s.unseal(now).error().context.find("revo") != std::string::npos);
}

TEST_CASE("indices are told apart by kind and tag, and removed by tag, whatever they are") {
    const TemporaryDirectory place;
    const Swtpm swtpm(place.path());
    const auto chip = pinned(swtpm.tcti());
    const auto auth = secret_of(known);
    const CellTag tag = filled(0x33);
    const auto cell = chip->define_cell(auth, tag);
    const auto counter = chip->define_counter(tag);
    const auto latch = chip->define_latch(tag);
    const auto stranger = chip->define_counter(filled(0x44));
    REQUIRE((fine(cell) && fine(counter) && fine(latch) && fine(stranger)));
    CHECK(chip->read_counter({*cell, tag}).error().code == Errc::wrong_cell);
    CHECK(chip->read_counter({latch->index, tag}).error().code == Errc::wrong_cell);
    CHECK(chip->read_counter({counter->index, filled(0x44)}).error().code == Errc::wrong_cell);
    CHECK(chip->increment_counter({latch->index, tag}).error().code == Errc::wrong_cell);
    CHECK(chip->close_latch({counter->index, tag, 1}).error().code == Errc::wrong_cell);
    CHECK(chip->read_cell({counter->index, tag}, auth).error().code == Errc::wrong_cell);
    REQUIRE(fine(chip->close_latch(*latch)));

    tool(swtpm, "tpm2_nvdefine -C o 0x018001f0 -s 8 -a 'ownerread|ownerwrite'");
    tool(swtpm, "tpm2_nvdefine -C o 0x01800200 -s 8 -a 'authread|ownerwrite|no_da|nt=counter'");
    CHECK(chip->remove_cell(0x018001f0).error().code == Errc::wrong_cell);
    CHECK(chip->remove_cell(0x01800200).error().code == Errc::wrong_cell);
    CHECK(chip->remove_cell(0x01800180).error().code == Errc::wrong_cell);
    REQUIRE(fine(chip->remove_other_cells({*cell, tag})));
    CHECK(chip->read_counter(*counter).error().code == Errc::wrong_cell);
    CHECK(chip->latch_closed(*latch).error().code == Errc::wrong_cell);
    CHECK(fine(chip->read_cell({*cell, tag}, auth)));
    CHECK(fine(chip->read_counter(*stranger)));
    CHECK(fine(chip->remove_cell(stranger->index)));
    const auto closed = chip->define_latch(tag);
    REQUIRE(fine(closed));
    REQUIRE(fine(chip->close_latch(*closed)));
    CHECK(fine(chip->remove_cell(closed->index)));
    CHECK(fine(chip->remove_cell(*cell)));
    CHECK(tool(swtpm, "tpm2_getcap handles-nv-index") == "- 0x18001F0\n- 0x1800200\n");
}

TEST_CASE("an owner with a password keeps counters from being made, and latches can be closed") {
    const TemporaryDirectory place;
    const Swtpm swtpm(place.path());
    const auto chip = pinned(swtpm.tcti());
    const auto counter = chip->define_counter(counter_tag);
    const auto latch = chip->define_latch(latch_tag);
    REQUIRE((fine(counter) && fine(latch)));
    tool(swtpm, "tpm2_evictcontrol -C o -c " + srk_by_tools(swtpm, place.path()) + " 0x81000001");
    tool(swtpm, "tpm2_flushcontext -t");
    tool(swtpm, "tpm2_changeauth -c owner secret");
    CHECK(chip->define_counter(counter_tag).error().code == Errc::permission);
    CHECK(chip->define_latch(latch_tag).error().code == Errc::permission);
    CHECK(chip->increment_counter(*counter).error().code == Errc::permission);
    CHECK(chip->remove_cell(counter->index).error().code == Errc::permission);
    CHECK(fine(chip->read_counter(*counter)));
    CHECK(fine(chip->close_latch(*latch)));
    CHECK(*chip->latch_closed(*latch));
}
