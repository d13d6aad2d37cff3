// PCRs live as long as the guest's power: over a save and its restore, and not a moment longer.
#include <signal.h>

#include "bench.h"

using namespace vtpm;
using namespace vtpm::fakes;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t pcr = 10;

// A guest whose PCR has been extended, and what it was before.
struct Life : Bench {
    explicit Life() { begin(guest); }

    void begin(SimGuest& one) {
        boot(one);
        zero = read_pcr(one, pcr);
        extend(one);
    }
    void extend(SimGuest& one) {
        REQUIRE(run(one, v20::pcr_extend(pcr, 0xA5)) == success);
        extended = read_pcr(one, pcr);
        CHECK(extended != zero);
    }
    // The guest of this file in another domain.
    std::unique_ptr<SimGuest> restore(std::uint32_t file) {
        auto restored = std::make_unique<SimGuest>(host, ++last_domain, uuid);
        restored->restore_from(file);
        boot(*restored);
        return restored;
    }
    std::unique_ptr<SimGuest> create() {
        auto created = std::make_unique<SimGuest>(host, ++last_domain, uuid);
        boot(*created);
        return created;
    }
    xen::DomainId last_domain = 5;
    Bytes zero;
    Bytes extended;
};

}  // namespace

TEST_CASE("a guest that is saved and restored finds its TPM as it was") {
    Life life;
    const auto file = life.guest.save();
    REQUIRE(file > 1);
    CHECK_FALSE(life.host.show(life.uuid).in_use());
    CHECK(std::filesystem::is_empty(life.host.directory() / "run"));
    SECTION("at once") {}
    SECTION("after the host was rebooted") {
        life.host.kill_manager();
        life.host.start_manager();
    }
    auto guest = life.restore(file);
    CHECK(read_pcr(*guest, pcr) == life.extended);
    // And again, and again.
    for (int round = 0; round < 2; ++round) {
        life.extend(*guest);
        const auto next = guest->save();
        REQUIRE(next > file);
        guest = life.restore(next);
        CHECK(read_pcr(*guest, pcr) == life.extended);
    }
    CHECK(guest->power_off());
    // Nothing of all this is left for the next life.
    guest = life.create();
    CHECK(read_pcr(*guest, pcr) == life.zero);
    CHECK(guest->destroy());
}

TEST_CASE("the quiet ways of a guest's life keep its PCRs when it is saved at last") {
    Life life;
    REQUIRE(life.guest.connect());  // its driver was reloaded
    life.extend(life.guest);
    life.host.kill_manager();
    life.host.start_manager();
    const auto file = life.guest.save();
    auto guest = life.restore(file);
    CHECK(read_pcr(*guest, pcr) == life.extended);
    CHECK(guest->destroy());
}

TEST_CASE("a save file that nobody restores leaves nothing for the guest's next life") {
    Life life;
    const auto file = life.guest.save();
    auto guest = life.create();
    CHECK(read_pcr(*guest, pcr) == life.zero);
    CHECK(guest->destroy());

    // And the guest of the file has no TPM that it could take for its own any more.
    guest = life.restore(file);
    CHECK(run(*guest, v20::pcr_read(pcr)) == failure_mode);
    CHECK(run(*guest, v20::get_random(8)) == failure_mode);
    CHECK(guest->destroy());
    guest = life.create();
    CHECK(read_pcr(*guest, pcr) == life.zero);
    CHECK(guest->destroy());
}

TEST_CASE("a save file is of use once, and an older one never") {
    Life life;
    const auto first = life.guest.save();
    auto guest = life.restore(first);
    std::uint32_t wrong = first;
    std::uint32_t right = 0;
    SECTION("the guest was destroyed since, as if it had crashed") {
        CHECK(guest->destroy());
    }
    SECTION("the guest was saved again since") {
        life.extend(*guest);
        right = guest->save();
    }
    SECTION("the guest began another life since, and was saved") {
        CHECK(guest->power_off());
        guest = life.create();
        life.extend(*guest);
        right = guest->save();
    }
    guest = life.restore(wrong);
    CHECK(run(*guest, v20::pcr_read(pcr)) == failure_mode);
    REQUIRE(guest->connect());  // nor does its driver help
    CHECK(run(*guest, v20::pcr_read(pcr)) == failure_mode);
    CHECK(guest->destroy());
    // What belongs to the right file is still there.
    if (right != 0) {
        guest = life.restore(right);
        CHECK(read_pcr(*guest, pcr) == life.extended);
        CHECK(guest->destroy());
    }
}

TEST_CASE("a checkpoint's guest runs on, and its file has no TPM") {
    Life life;
    const auto checkpoint = life.guest.save_and_go_on();
    CHECK(read_pcr(life.guest, pcr) == life.extended);
    life.extend(life.guest);
    SECTION("restored after a crash") {
        CHECK(life.guest.destroy());
    }
    // The checkpoint and the later save cannot be told apart: neither gets the TPM.
    SECTION("restored after a save") {
        CHECK(life.guest.save() == checkpoint);
    }
    auto guest = life.restore(checkpoint);
    CHECK(run(*guest, v20::pcr_read(pcr)) == failure_mode);
    CHECK(guest->destroy());
}

TEST_CASE("a TPM that could not be suspended is not there for the restored guest") {
    Life life;
    SECTION("there was no manager") {
        life.host.kill_manager();
        const auto file = life.guest.save();
        life.host.start_manager();
        const auto guest = life.restore(file);
        CHECK(run(*guest, v20::pcr_read(pcr)) == failure_mode);
        CHECK(guest->destroy());
    }
    SECTION("its engine had died") {
        ::kill(life.guest.engine_pid(), SIGKILL);
        CHECK(run(life.guest, v20::get_random(8)) == failure_mode);
        const auto file = life.guest.save();
        const auto guest = life.restore(file);
        CHECK(run(*guest, v20::pcr_read(pcr)) == failure_mode);
        CHECK(guest->destroy());
    }
}

TEST_CASE("a guest of which it cannot be told whether it was restored gets no TPM") {
    Life life;
    auto& xen = life.host.xen();
    const auto file = life.guest.save();
    const xen::DomainId domain = 6;
    SimGuest guest(life.host, domain, life.uuid);
    xen.write("/libxl/6/type", "pv");
    xen.write("/local/domain/6/vm", "/vm/of-six");
    SECTION("restored, with a kernel as if it were created") {
        xen.write("/vm/of-six/image/kernel", "/boot/vmlinuz");
        guest.restore_from(file);
    }
    SECTION("created, but from no kernel") {
        xen.write("/vm/of-six/image/ostype", "linux");
    }
    CHECK_FALSE(guest.boot());
    INFO(guest.refusal());
    CHECK(guest.refusal().find("cannot be told") != std::string::npos);
    CHECK(guest.destroy());
    // Nothing is lost by that.
    life.last_domain = 6;
    const auto restored = life.restore(file);
    CHECK(read_pcr(*restored, pcr) == life.extended);
    CHECK(restored->destroy());
}

TEST_CASE("a domain has one name, whichever vtpmd asks for it") {
    Life life;
    const Uuid other = life.host.create(tpm::Version::v2_0);
    SimGuest first(life.host, 8, other);
    first.plug();
    first.start_vtpmd();
    REQUIRE(first.announced());
    const auto named = life.host.xen().incarnation(8);
    CHECK(named > 1);
    // A vtpmd that is started anew before the guest runs decides the same.
    ::kill(first.vtpmd().pid(), SIGKILL);
    first.start_vtpmd();
    REQUIRE(first.connect());
    CHECK(run(first, v20::pcr_extend(pcr, 1)) == success);
    CHECK(life.host.xen().incarnation(8) == named);
    CHECK(first.destroy());
    CHECK(life.guest.destroy());
}
