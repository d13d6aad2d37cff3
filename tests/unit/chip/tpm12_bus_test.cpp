// What an interposer on a TPM 1.2's bus can do, and what is there for him to read.
#include <openssl/sha.h>

#include <algorithm>

#include "tpm12_scene.h"

using namespace vtpm;
using namespace vtpm::chip;
using namespace vtpm::chip_tests;
using fakes::SocketTap;
using fakes::Swtpm12;
using fakes::TemporaryDirectory;

TEST_CASE("an answer that was changed on the way from a TPM 1.2 does not verify") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    SocketTap tap(place.path(), swtpm.socket());
    const auto chip = pinned12(tap.tcti());
    const auto cell = chip->define_cell(auth, tag);
    REQUIRE(fine(cell));
    const Binding binding = this_boot(*chip);
    const auto sealed = chip->seal(secret_of(known), binding);
    REQUIRE(fine(sealed));
    const auto flip = [&](std::uint32_t ordinal, std::size_t from_end) {
        tap.meddle([=](Bytes& command, Bytes& answer) {
            if (command_code(command) == ordinal)
                answer[answer.size() - from_end] ^= 1;
            return true;
        });
    };
    // The last byte of the content; the HMAC; the nonce.
    for (const std::size_t at : {std::size_t{42}, std::size_t{1}, std::size_t{30}}) {
        flip(nv_read, at);
        CHECK(code_of(chip->read_cell({*cell, tag}, auth)) == Errc::chip);
    }
    flip(nv_write, 1);
    CHECK(code_of(chip->extend_cell({*cell, tag}, auth, tag)) == Errc::chip);
    for (const std::size_t at : {std::size_t{83}, std::size_t{42}, std::size_t{1}}) {
        flip(unseal_command, at);
        CHECK(code_of(chip->unseal(*sealed, binding, nullptr)) == Errc::chip);
    }
    flip(nv_define, 1);
    CHECK(code_of(chip->define_cell(auth, tag_of(9))) == Errc::chip);
    // Sessions that such answers leave open do not use up the chip's.
    for (int i = 0; i < 40; ++i) {
        flip(nv_read, 1);
        REQUIRE(code_of(chip->read_cell({*cell, tag}, auth)) == Errc::chip);
    }
    tap.meddle({});
    CHECK(fine(chip->read_cell({*cell, tag}, auth)));
    // An old answer, played back, is none to this question.
    Bytes old;
    tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == nv_read)
            old = answer;
        return true;
    });
    CHECK(fine(chip->read_cell({*cell, tag}, auth)));
    REQUIRE_FALSE(old.empty());
    tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == nv_read)
            answer = old;
        return true;
    });
    CHECK(code_of(chip->read_cell({*cell, tag}, auth)) == Errc::chip);
}

TEST_CASE("answers of a TPM 1.2 that do not parse are errors") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    SocketTap tap(place.path(), swtpm.socket());
    const auto chip = pinned12(tap.tcti());
    const Binding binding = this_boot(*chip);
    const auto sealed = chip->seal(secret_of(known), binding);
    REQUIRE(fine(sealed));
    std::size_t size = 0;
    for (const std::uint32_t wrong : {0U, 9U, 4097U, 0xffffffffU}) {
        tap.meddle([=](Bytes&, Bytes& answer) {
            const Bytes number = ByteWriter().u32(wrong).take();
            std::copy(number.begin(), number.end(), answer.begin() + 2);
            return true;
        });
        CHECK(code_of(chip->random(8)) == Errc::malformed);
    }
    for (size = 10; size < 60; ++size) {
        // Cut, with the header's size made right.
        tap.meddle([&](Bytes& command, Bytes& answer) {
            if (command_code(command) != unseal_command && command_code(command) != 0x46)
                return true;
            if (answer.size() > size)
                answer.resize(size);
            const Bytes number = ByteWriter().u32(static_cast<std::uint32_t>(answer.size())).take();
            std::copy(number.begin(), number.end(), answer.begin() + 2);
            return true;
        });
        INFO("size " << size);
        CHECK_FALSE(chip->unseal(*sealed, binding, nullptr).has_value());
        if (size < 22)
            CHECK_FALSE(chip->random(8).has_value());
    }
    tap.meddle([](Bytes&, Bytes&) { return false; });
    CHECK(code_of(chip->random(8)) == Errc::unavailable);
    tap.meddle({});
    CHECK(fine(chip->unseal(*sealed, binding, nullptr)));
}

TEST_CASE("an area of a TPM 1.2 that cannot be asked about is not one that is not there") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    SocketTap tap(place.path(), swtpm.socket());
    const auto chip = pinned12(tap.tcti());
    const auto cell = chip->define_cell(auth, tag);
    REQUIRE(fine(cell));
    REQUIRE(fine(chip->define_cell(auth, tag)));
    REQUIRE(fine(chip->define_cell(auth, tag)));
    // Of the first area asked about, that it is not there; of the next, nothing.
    int asked = 0;
    const auto lose_the_second = [&asked](Bytes& command, Bytes& answer) {
        if (command_code(command) != 0x65 || command.at(13) != 0x11)
            return true;
        if (++asked > 1)
            return false;
        answer = ByteWriter().u16(0xc4).u32(10).u32(2).take();
        return true;
    };
    tap.meddle(lose_the_second);
    CHECK(code_of(chip->cells()) == Errc::unavailable);
    asked = 0;
    CHECK(code_of(chip->remove_other_cells({*cell, tag})) == Errc::unavailable);
    tap.meddle({});
    const auto all = chip->cells();
    REQUIRE(fine(all));
    CHECK(all->size() == 3);
}

TEST_CASE("the secrets of a cell are not on a TPM 1.2's bus") {
    const TemporaryDirectory place;
    Swtpm12 swtpm(place.path());
    SocketTap tap(place.path(), swtpm.socket());
    const auto chip = pinned12(tap.tcti());
    const auto cell = chip->define_cell(auth, tag);
    REQUIRE(fine(cell));
    REQUIRE(fine(chip->extend_cell({*cell, tag}, auth, tag)));
    const Bytes heard = tap.heard();
    CHECK(std::search(heard.begin(), heard.end(), known.begin(), known.end()) == heard.end());
    Bytes area(20);
    ::SHA1(auth.view().data(), auth.size(), area.data());
    CHECK(std::search(heard.begin(), heard.end(), area.begin(), area.end()) == heard.end());
}
