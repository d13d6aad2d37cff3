// The commit cell on a real (software) TPM.
#include <openssl/sha.h>

#include "scene.h"

using namespace vtpm;
using namespace vtpm::chip;
using namespace vtpm::chip_tests;
using fakes::SocketTap;
using fakes::Swtpm;
using fakes::TemporaryDirectory;

namespace {

CellValue value_after(const CellValue& old, const CellValue& digest) {
    Bytes text(old.begin(), old.end());
    text.insert(text.end(), digest.begin(), digest.end());
    CellValue value{};
    ::SHA256(text.data(), text.size(), value.data());
    return value;
}

CellValue digest_of(std::uint8_t fill) {
    CellValue digest{};
    digest.fill(fill);
    return digest;
}

const SecretBytes auth = secret_of(known);  // 32 bytes
const CellTag cell_tag = digest_of(0x77);

}  // namespace

TEST_CASE("a cell is extended, one way, and outlives the chip's power") {
    const TemporaryDirectory place;
    Swtpm swtpm(place.path());
    auto chip = pinned(swtpm.tcti());
    const auto cell = chip->define_cell(auth, cell_tag);
    REQUIRE(fine(cell));
    const auto fresh = chip->read_cell({*cell, cell_tag}, auth);
    REQUIRE(fine(fresh));
    CHECK_FALSE(fresh->has_value());

    CellValue expected{};
    for (const std::uint8_t n : Bytes{1, 2, 3}) {
        expected = value_after(expected, digest_of(n));
        const auto extended = chip->extend_cell({*cell, cell_tag}, auth, digest_of(n));
        REQUIRE(fine(extended));
        CHECK(*extended == expected);
        swtpm.restart();  // as by a power cut
        chip = pinned(swtpm.tcti());
        const auto again = chip->read_cell({*cell, cell_tag}, auth);
        REQUIRE(fine(again));
        CHECK(*again == expected);
    }
    // A second one is another.
    const auto second = chip->define_cell(auth, cell_tag);
    REQUIRE(fine(second));
    CHECK(*second != *cell);
    REQUIRE(fine(chip->remove_cell(*second)));
    CHECK(chip->read_cell({*second, cell_tag}, auth).error().code == Errc::wrong_cell);
    CHECK(*chip->read_cell({*cell, cell_tag}, auth) == expected);
}

TEST_CASE("a manager's cells are told from others', and all but one can be removed") {
    const TemporaryDirectory place;
    const Swtpm swtpm(place.path());
    const auto chip = pinned(swtpm.tcti());
    const auto stranger = chip->define_cell(auth, digest_of(1));
    const auto first = chip->define_cell(auth, cell_tag);
    const auto second = chip->define_cell(auth, cell_tag);
    REQUIRE((fine(stranger) && fine(first) && fine(second)));
    REQUIRE(fine(chip->define_counter(cell_tag)));
    CHECK(*EsysChip::open(swtpm.tcti()).value()->cells() ==
          std::vector{*stranger, *first, *second});
    CHECK(chip->read_cell({*first, digest_of(1)}, auth).error().code == Errc::wrong_cell);
    REQUIRE(fine(chip->remove_other_cells({*second, cell_tag})));
    CHECK(chip->read_cell({*first, cell_tag}, auth).error().code == Errc::wrong_cell);
    CHECK(fine(chip->read_cell({*second, cell_tag}, auth)));
    CHECK(fine(chip->read_cell({*stranger, digest_of(1)}, auth)));
}

TEST_CASE("only the authorization value opens a cell, and wrong ones do not lock the chip") {
    const TemporaryDirectory place;
    Swtpm swtpm(place.path());
    const auto chip = pinned(swtpm.tcti());
    const auto cell = chip->define_cell(auth, cell_tag);
    REQUIRE(fine(cell));
    REQUIRE(fine(chip->extend_cell({*cell, cell_tag}, auth, digest_of(1))));
    const SecretBytes wrong(32);
    for (int n = 0; n < 50; ++n) {
        CHECK(chip->read_cell({*cell, cell_tag}, wrong).error().code == Errc::wrong_cell);
        CHECK(chip->extend_cell({*cell, cell_tag}, wrong, digest_of(2)).error().code ==
              Errc::wrong_cell);
    }
    CHECK(chip->read_cell({*cell, cell_tag}, SecretBytes(31)).error().code ==
          Errc::invalid_argument);
    CHECK(chip->define_cell(SecretBytes(33), cell_tag).error().code == Errc::invalid_argument);
    CHECK(*chip->read_cell({*cell, cell_tag}, auth) == value_after({}, digest_of(1)));
    CHECK(tool(swtpm, "tpm2_getcap properties-variable").find("TPM2_PT_LOCKOUT_COUNTER: 0x0") !=
          std::string::npos);
}

TEST_CASE("what the owner puts in a cell's place is not the cell") {
    const TemporaryDirectory place;
    Swtpm swtpm(place.path());
    auto chip = pinned(swtpm.tcti());
    const auto cell = chip->define_cell(auth, cell_tag);
    REQUIRE(fine(cell));
    REQUIRE(fine(chip->extend_cell({*cell, cell_tag}, auth, digest_of(1))));
    chip.reset();
    const std::string index = "0x" + to_hex(ByteWriter().u32(*cell).take());
    (void)tool(swtpm, "tpm2_nvundefine " + index);
    SECTION("an extend index without a password") {
        (void)tool(swtpm,
                   "tpm2_nvdefine " + index + " -s 32 -a 'authread|authwrite|no_da|nt=extend'");
    }
    SECTION("an ordinary index with the password, if it had leaked") {
        (void)tool(swtpm, "tpm2_nvdefine " + index + " -s 32 -a 'authread|authwrite|no_da' -p '" +
                              std::string(known) + "'");
    }
    chip = pinned(swtpm.tcti());
    CHECK(chip->read_cell({*cell, cell_tag}, auth).error().code == Errc::wrong_cell);
    CHECK(chip->extend_cell({*cell, cell_tag}, auth, digest_of(2)).error().code ==
          Errc::wrong_cell);
}

TEST_CASE("an owner with a password is told apart from a chip that is full") {
    const TemporaryDirectory place;
    Swtpm swtpm(place.path());
    const auto chip = pinned(swtpm.tcti());
    (void)tool(swtpm,
               "tpm2_evictcontrol -C o -c " + srk_by_tools(swtpm, place.path()) + " 0x81000001");
    (void)tool(swtpm, "tpm2_flushcontext -t");
    (void)tool(swtpm, "tpm2_changeauth -c owner secret");
    const auto refused = chip->define_cell(auth, cell_tag);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::permission);
    CHECK(refused.error().context.find("password") != std::string::npos);
}

TEST_CASE("an interposer neither learns the authorization value nor changes what passes") {
    const TemporaryDirectory place;
    Swtpm swtpm(place.path());
    SocketTap tap(place.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    const auto cell = chip->define_cell(auth, cell_tag);
    REQUIRE(fine(cell));
    REQUIRE(fine(chip->extend_cell({*cell, cell_tag}, auth, digest_of(1))));
    const Bytes heard = tap.heard();
    const auto secret = auth.view();
    CHECK(std::search(heard.begin(), heard.end(), secret.begin(), secret.end()) == heard.end());

    // Each of its answers changed in one byte: an error, and never another value.
    for (int nth = 0; nth < 40; ++nth) {
        int seen = 0;
        tap.meddle([&](Bytes&, Bytes& answer) {
            if (seen++ == nth && answer.size() > 30)
                answer[answer.size() - 5] ^= 1U;
            return true;
        });
        const auto read = chip->read_cell({*cell, cell_tag}, auth);
        CHECK((!read || *read == value_after({}, digest_of(1))));
        if (seen <= nth)
            break;
    }
    tap.meddle(nullptr);
    CHECK(*chip->read_cell({*cell, cell_tag}, auth) == value_after({}, digest_of(1)));
}

TEST_CASE("the connection cut at the nth command: extended once or not at all") {
    const TemporaryDirectory place;
    Swtpm swtpm(place.path());
    SocketTap tap(place.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    const auto cell = chip->define_cell(auth, cell_tag);
    REQUIRE(fine(cell));
    CellValue expected{};
    for (int nth = 0;; ++nth) {
        REQUIRE(nth < 60);
        int seen = 0;
        tap.meddle([&](Bytes&, Bytes&) { return seen++ != nth; });
        const auto done = chip->extend_cell({*cell, cell_tag}, auth, digest_of(7));
        tap.meddle(nullptr);
        const auto now = chip->read_cell({*cell, cell_tag}, auth);
        REQUIRE(fine(now));
        const auto next = value_after(expected, digest_of(7));
        const auto value = now->value_or(CellValue{});
        if (done)
            CHECK(value == next);
        CHECK((value == expected || value == next));
        expected = value;
        if (seen <= nth)
            break;
    }
    // Nothing of all that stays in the chip.
    CHECK(tool(swtpm, "tpm2_getcap handles-transient").empty());
    CHECK(tool(swtpm, "tpm2_getcap handles-loaded-session").empty());
}
