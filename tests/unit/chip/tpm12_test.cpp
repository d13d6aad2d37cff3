// A TPM 1.2 as the host's chip: a real one, of software.
#include <algorithm>
#include <fstream>

#include "tpm12_scene.h"
#include "vtpm/chip/host_chip.h"

using namespace vtpm;
using namespace vtpm::chip;
using namespace vtpm::chip_tests;
using fakes::Swtpm;
using fakes::Swtpm12;
using fakes::TemporaryDirectory;

TEST_CASE("a TPM 1.2 that nobody owns becomes ours, and stays the same chip") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    ChipIdentity identity;
    {
        Tpm12Chip chip(swtpm.tcti());
        CHECK(chip.generation() == Generation::tpm_1_2);
        CHECK(code_of(chip.random(8)) == Errc::invalid_argument);  // before expect()
        const auto is = chip.identify();
        REQUIRE(fine(is));
        identity = *is;
        CHECK(is_tpm12(identity));
        CHECK(identity.manufacturer == "IBM");
        CHECK_THAT(identity.firmware, Catch::StartsWith("TPM 1.2"));
        REQUIRE(fine(chip.expect(identity)));
        const auto a = chip.random(100);
        const auto b = chip.random(100);
        REQUIRE(fine(a));
        REQUIRE(fine(b));
        CHECK_FALSE(equal_constant_time(a->view(), b->view()));
    }
    swtpm.restart();
    Tpm12Chip again(swtpm.tcti());
    CHECK(fine(again.expect(identity)));

    ChipIdentity forged = identity;
    forged.srk_name.back() ^= 1;
    CHECK(code_of(again.expect(forged)) == Errc::wrong_chip);
    forged = identity;
    forged.srk_public.back() ^= 1;
    CHECK(code_of(again.expect(forged)) == Errc::wrong_chip);
    CHECK(fine(again.random(1)));  // the pin stays

    Swtpm12 other(place.path() / "other");
    Tpm12Chip stranger(other.tcti());
    CHECK(code_of(stranger.expect(identity)) == Errc::wrong_chip);  // without an owner
    REQUIRE(fine(stranger.identify()));
    CHECK(code_of(stranger.expect(identity)) == Errc::wrong_chip);
}

TEST_CASE("a chip that was exchanged behind our back is noticed") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path() / "a");
    Swtpm12 other(place.path() / "b");
    const auto path = place.path() / "chip";
    std::filesystem::create_symlink(swtpm.socket(), path);
    const auto chip = pinned12("swtpm:path=" + path.string());
    { const auto owned = pinned12(other.tcti()); }
    std::filesystem::remove(path);
    std::filesystem::create_symlink(other.socket(), path);
    swtpm.kill();
    CHECK(code_of(chip->random(8)) == Errc::unavailable);
    CHECK(code_of(chip->random(8)) == Errc::wrong_chip);
    swtpm.start();
    std::filesystem::remove(path);
    std::filesystem::create_symlink(swtpm.socket(), path);
    other.kill();
    const auto lost = chip->random(8);  // the stranger's connection
    CHECK(fine(chip->random(8)));
}

TEST_CASE("a TPM 1.2 gives a secret to the boots that it was sealed for") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    swtpm.extend(4, 0xaa);
    swtpm.extend(7, 0xbb);
    SealedObject sealed;
    Binding binding;
    PcrValues next;
    ChipIdentity identity;
    {
        Tpm12Chip chip(swtpm.tcti());
        const auto is = chip.identify();
        REQUIRE(fine(is));
        identity = *is;
        REQUIRE(fine(chip.expect(identity)));
        binding = this_boot(chip);
        const auto made = chip.seal(secret_of(known), binding);
        REQUIRE(fine(made));
        sealed = *made;
        CHECK(boots_of(sealed) == binding.boots);
        const auto got = chip.unseal(sealed, binding, nullptr);
        REQUIRE(fine(got));
        CHECK(equal_constant_time(got->view(), as_bytes(known)));
        // Nothing of it is left to read.
        CHECK(std::search(sealed.private_area.begin(), sealed.private_area.end(), known.begin(),
                          known.end()) == sealed.private_area.end());
    }
    swtpm.extend(4, 0xcc);
    {
        Tpm12Chip chip(swtpm.tcti());
        REQUIRE(fine(chip.expect(identity)));
        const auto refused = chip.unseal(sealed, binding, nullptr);
        CHECK(code_of(refused) == Errc::not_approved);
        CHECK_THAT(refused.error().context, Catch::Contains("PCR 4 "));
        // Who says that it was sealed for this boot is told otherwise by the chip.
        SealedObject lie = sealed;
        const auto now = this_boot(chip);
        next = now.boots.front();
        const auto here = chip.seal(secret_of("another"), now);
        REQUIRE(fine(here));
        lie.public_area = here->public_area;
        CHECK(code_of(chip.unseal(lie, binding, nullptr)) == Errc::not_approved);
    }
    swtpm.restart();
    swtpm.extend(4, 0xaa);
    swtpm.extend(7, 0xbb);
    {
        Tpm12Chip chip(swtpm.tcti());
        REQUIRE(fine(chip.expect(identity)));
        REQUIRE(fine(chip.unseal(sealed, binding, nullptr)));
        // Another boot is approved before it comes.
        binding.boots.push_back(next);
        const auto both = chip.seal(secret_of(known), binding);
        REQUIRE(fine(both));
        sealed = *both;
        CHECK(boots_of(sealed) == binding.boots);
        REQUIRE(fine(chip.unseal(sealed, binding, nullptr)));
        // One that does not come, alone, is taken as it is.
        Binding only_next;
        only_next.boots = {next};
        const auto later = chip.seal(secret_of(known), only_next);
        REQUIRE(fine(later));
        CHECK(code_of(chip.unseal(*later, only_next, nullptr)) == Errc::not_approved);
    }
    swtpm.extend(4, 0xcc);
    Tpm12Chip chip(swtpm.tcti());
    REQUIRE(fine(chip.expect(identity)));
    CHECK(fine(chip.unseal(sealed, binding, nullptr)));
}

TEST_CASE("what a TPM 1.2 has sealed cannot be changed") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    const auto chip = pinned12(swtpm.tcti());
    const Binding binding = this_boot(*chip);
    const auto sealed = chip->seal(secret_of(known), binding);
    REQUIRE(fine(sealed));
    for (std::size_t at = 0; at < sealed->private_area.size(); at += 7) {
        SealedObject changed = *sealed;
        changed.private_area[at] ^= 0x10;
        INFO("byte " << at);
        const Errc code = code_of(chip->unseal(changed, binding, nullptr));
        CHECK((code == Errc::wrong_chip || code == Errc::corrupt || code == Errc::not_approved ||
               code == Errc::chip));
    }
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{3}, sealed->private_area.size() - 1}) {
        SealedObject cut = *sealed;
        cut.private_area.resize(size);
        CHECK(code_of(chip->unseal(cut, binding, nullptr)) == Errc::corrupt);
        cut = *sealed;
        cut.public_area.resize(std::min(size, cut.public_area.size() - 1));
        CHECK(code_of(chip->unseal(cut, binding, nullptr)) == Errc::corrupt);
    }
    Swtpm12 other(place.path() / "other");
    const auto stranger = pinned12(other.tcti());
    CHECK(code_of(stranger->unseal(*sealed, binding, nullptr)) == Errc::wrong_chip);
}

TEST_CASE("a TPM 1.2 is asked for nothing that it has not") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    const auto chip = pinned12(swtpm.tcti());
    Binding binding = this_boot(*chip);
    CHECK(code_of(chip->define_counter(tag)) == Errc::unsupported);
    CHECK(code_of(chip->define_latch(tag)) == Errc::unsupported);
    CHECK(code_of(chip->approver_key("")) == Errc::unsupported);
    CHECK(code_of(chip->close_latch({})) == Errc::unsupported);
    CHECK(code_of(chip->seal(SecretBytes(), binding)) == Errc::invalid_argument);
    CHECK(code_of(chip->seal(SecretBytes(129), binding)) == Errc::too_large);
    CHECK(fine(chip->seal(SecretBytes(128), binding)));
    CHECK(code_of(chip->random(0)) == Errc::invalid_argument);
    CHECK(code_of(chip->read_pcrs({24})) == Errc::invalid_argument);
    CHECK(code_of(chip->read_pcrs({})) == Errc::invalid_argument);
    binding.latch.emplace();
    CHECK(code_of(chip->seal(secret_of(known), binding)) == Errc::unsupported);
    CHECK(code_of(chip->seal(secret_of(known), {})) == Errc::invalid_argument);  // no boot
    Binding sha256 = this_boot(*chip);
    sha256.boots[0][4].fill(1);
    CHECK(code_of(chip->seal(secret_of(known), sha256)) == Errc::invalid_argument);
    Binding many;
    many.boots.assign(max_boots + 1, this_boot(*chip).boots[0]);
    CHECK(code_of(chip->seal(secret_of(known), many)) == Errc::invalid_argument);
}

TEST_CASE("a TPM 1.2's commit cell is exact, and its keeper's alone") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    auto chip = pinned12(swtpm.tcti());
    const auto cell = chip->define_cell(auth, tag);
    REQUIRE(fine(cell));
    const auto fresh = chip->read_cell({*cell, tag}, auth);
    REQUIRE(fine(fresh));
    CHECK_FALSE(fresh->has_value());
    CellValue last{};
    for (const std::uint8_t n : Bytes{1, 2, 3}) {
        const auto extended = chip->extend_cell({*cell, tag}, auth, tag_of(n));
        REQUIRE(fine(extended));
        CHECK(*extended != last);
        last = *extended;
        swtpm.restart();  // as by a power cut
        chip = pinned12(swtpm.tcti());
        CHECK(chip->read_cell({*cell, tag}, auth).value() == last);
    }
    CHECK(code_of(chip->read_cell({*cell, tag_of(1)}, auth)) == Errc::wrong_cell);
    CHECK(code_of(chip->read_cell({*cell + 1, tag}, auth)) == Errc::wrong_cell);
    CHECK(code_of(chip->read_cell({*cell, tag}, SecretBytes(32))) == Errc::wrong_cell);
    CHECK(code_of(chip->extend_cell({*cell, tag}, SecretBytes(32), tag)) == Errc::wrong_cell);
    CHECK(code_of(chip->define_cell(SecretBytes(31), tag)) == Errc::invalid_argument);
    CHECK(chip->read_cell({*cell, tag}, auth).value() == last);

    const auto second = chip->define_cell(auth, tag);
    const auto foreign = chip->define_cell(auth, tag_of(0x11));
    REQUIRE(fine(second));
    REQUIRE(fine(foreign));
    CHECK(chip->cells().value().size() == 3);
    REQUIRE(fine(chip->remove_other_cells({*second, tag})));
    CHECK(code_of(chip->read_cell({*cell, tag}, auth)) == Errc::wrong_cell);
    CHECK(fine(chip->read_cell({*second, tag}, auth)));
    CHECK(fine(chip->read_cell({*foreign, tag_of(0x11)}, auth)));
    CHECK(fine(chip->remove_cell(*foreign)));
    CHECK(code_of(chip->remove_cell(*foreign)) == Errc::wrong_cell);
}

TEST_CASE("an owner with an authorization value of his own") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    const std::string file = (place.path() / "owner").string();
    std::ofstream(file) << "00112233445566778899AABBccddeeff01234567\n";
    {
        Tpm12Chip chip(swtpm.tcti(), file);
        CHECK(code_of(chip.identify()) == Errc::permission);  // others may read the file
    }
    std::filesystem::permissions(file, std::filesystem::perms::owner_read);
    {
        const auto chip = pinned12(swtpm.tcti(), file);
        const auto cell = chip->define_cell(auth, tag);
        REQUIRE(fine(cell));
        CHECK(fine(chip->remove_cell(*cell)));
    }
    {
        const auto chip = pinned12(swtpm.tcti());
        const auto refused = chip->define_cell(auth, tag);
        CHECK(code_of(refused) == Errc::permission);
        CHECK_THAT(refused.error().context, Catch::Contains("tpm12_owner_file"));
    }
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    std::ofstream(file) << "0011223344556677889900112233445566778G99";
    std::filesystem::permissions(file, std::filesystem::perms::owner_read);
    const auto chip = pinned12(swtpm.tcti(), file);
    CHECK(code_of(chip->define_cell(auth, tag)) == Errc::malformed);
}

TEST_CASE("the host's chip is of the generation that it answers in") {
    const TemporaryDirectory place;
    SECTION("1.2") {
        Swtpm12 swtpm(place.path());
        HostChip chip(swtpm.tcti(), "");
        CHECK(chip.generation() == Generation::tpm_1_2);
        const auto identity = chip.identify();
        REQUIRE(fine(identity));
        CHECK(is_tpm12(*identity));
        REQUIRE(fine(chip.expect(*identity)));
        CHECK(fine(chip.random(8)));
    }
    SECTION("2.0") {
        Swtpm swtpm(place.path());
        HostChip chip(swtpm.tcti(), "");
        CHECK(chip.generation() == Generation::tpm_2_0);
        const auto identity = chip.identify();
        REQUIRE(fine(identity));
        CHECK_FALSE(is_tpm12(*identity));
        REQUIRE(fine(chip.expect(*identity)));
        CHECK(fine(chip.random(8)));
        ChipIdentity legacy = *identity;
        Swtpm12 old(place.path() / "old");
        Tpm12Chip other(old.tcti());
        const auto its = other.identify();
        REQUIRE(fine(its));
        CHECK(code_of(chip.expect(*its)) == Errc::wrong_chip);
        CHECK(code_of(other.expect(*identity)) == Errc::wrong_chip);
    }
    SECTION("a TPM 2.0 is no TPM 1.2") {
        Swtpm swtpm(place.path());
        Tpm12Chip chip(swtpm.tcti());
        CHECK(code_of(chip.identify()) == Errc::unsupported);
    }
    SECTION("none") {
        HostChip chip("swtpm:path=" + (place.path() / "nothing").string(), "");
        CHECK(code_of(chip.generation()) == Errc::unavailable);
        Swtpm12 late(place.path());
        std::filesystem::create_symlink(late.socket(), place.path() / "nothing");
        std::filesystem::create_symlink(late.socket().string() + ".ctrl",
                                        place.path() / "nothing.ctrl");
        CHECK(chip.generation() == Generation::tpm_1_2);
    }
}
