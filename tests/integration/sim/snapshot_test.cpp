// A guest's TPM is kept, reverted and cloned, between two power cycles of the guest.
#include "bench.h"

using namespace vtpm;
using namespace vtpm::fakes;

namespace {

constexpr std::uint32_t pcr = 10;

struct Kept : Bench {
    Kept() {
        boot(guest);
        zero = read_pcr(guest, pcr);
        REQUIRE(run(guest, v20::nv_define(4)) == success);
        REQUIRE(run(guest, v20::nv_write(old_words)) == success);
        REQUIRE(run(guest, v20::pcr_extend(pcr, 0xA5)) == success);
    }
    std::unique_ptr<SimGuest> next(const Uuid& which) {
        return std::make_unique<SimGuest>(host, ++last_domain, which);
    }
    bool refused(const std::function<void()>& act, const std::string& why) {
        try {
            act();
        } catch (const std::exception& error) {
            INFO(error.what());
            CHECK(std::string(error.what()).find(why) != std::string::npos);
            return true;
        }
        return false;
    }

    const Bytes old_words{1, 1, 1, 1};
    const Bytes new_words{2, 2, 2, 2};
    xen::DomainId last_domain = 5;
    Bytes zero;
};

}  // namespace

TEST_CASE("a revert brings back what the TPM had written, and no PCRs") {
    Kept k;
    CHECK(k.refused([&] { k.host.take_snapshot(k.uuid, "s"); }, "in use by domain 5"));
    REQUIRE(k.guest.power_off());
    k.host.take_snapshot(k.uuid, "s");
    auto guest = k.next(k.uuid);
    boot(*guest);
    REQUIRE(run(*guest, v20::nv_write(k.new_words)) == success);
    REQUIRE(run(*guest, v20::pcr_extend(pcr, 0x5A)) == success);
    CHECK(k.refused([&] { k.host.revert(k.uuid, "s"); }, "in use by domain 6"));
    CHECK(read_nv(*guest, 4) == k.new_words);
    REQUIRE(guest->power_off());
    const auto before = k.host.show(k.uuid).sequence();
    k.host.revert(k.uuid, "s");
    CHECK(k.host.show(k.uuid).sequence() == before + 1);
    CHECK(k.host.show(k.uuid).reverts() == 1);

    guest = k.next(k.uuid);
    boot(*guest);
    CHECK(read_nv(*guest, 4) == k.old_words);
    CHECK(read_pcr(*guest, pcr) == k.zero);
    REQUIRE(run(*guest, v20::nv_write(k.new_words)) == success);
    REQUIRE(guest->power_off());
    k.host.kill_manager();
    k.host.start_manager();
    guest = k.next(k.uuid);
    boot(*guest);
    CHECK(read_nv(*guest, 4) == k.new_words);
    CHECK(guest->destroy());
}

TEST_CASE("a guest that was saved before a revert has no TPM to go on with") {
    Kept k;
    REQUIRE(k.guest.power_off());
    k.host.take_snapshot(k.uuid, "s");
    auto guest = k.next(k.uuid);
    boot(*guest);
    const auto file = guest->save();
    REQUIRE(file > 1);
    k.host.revert(k.uuid, "s");
    guest = k.next(k.uuid);
    guest->restore_from(file);
    boot(*guest);
    CHECK(run(*guest, v20::pcr_read(pcr)) == failure_mode);
    for (int n = 0; n < 100 && !k.host.show(k.uuid).story().power().failed(); ++n)
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const auto told = k.host.show(k.uuid).story().power();
    CHECK(told.failed());
    CHECK(told.handed_over() == 0);
    CHECK(told.engines() == 1);
    CHECK(told.why().find("could not be started") != std::string::npos);
    CHECK(guest->destroy());
    guest = k.next(k.uuid);
    boot(*guest);
    CHECK(read_nv(*guest, 4) == k.old_words);
    CHECK(guest->destroy());
}

TEST_CASE("a clone serves another guest at the same time") {
    Kept k;
    CHECK(k.refused([&] { k.host.clone(k.uuid); }, "in use by domain 5"));
    REQUIRE(k.guest.power_off());
    k.host.take_snapshot(k.uuid, "s");
    const Uuid copy = k.host.clone(k.uuid);
    auto first = k.next(k.uuid);
    boot(*first);
    REQUIRE(run(*first, v20::nv_write(k.new_words)) == success);
    auto second = k.next(copy);
    boot(*second);
    CHECK(read_pcr(*second, pcr) == k.zero);
    CHECK(read_nv(*second, 4) == k.old_words);
    // Of a snapshot, while the guest runs.
    const Uuid third = k.host.clone(k.uuid, "s");
    REQUIRE(run(*second, v20::nv_write({3, 3, 3, 3})) == success);
    CHECK(read_nv(*first, 4) == k.new_words);
    // Two TPMs of the same seeds do not say the same at random.
    CHECK(first->transmit(v20::get_random(32)) != second->transmit(v20::get_random(32)));
    CHECK(first->destroy());
    CHECK(second->destroy());
    auto guest = k.next(third);
    boot(*guest);
    CHECK(read_nv(*guest, 4) == k.old_words);
    CHECK(guest->destroy());
    CHECK(k.host.show(k.uuid).clones() == 2);
}
