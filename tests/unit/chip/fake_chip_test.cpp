// The fake is as strict as a real chip: the same scene, played to both.
#include "fakes/chip/fake_chip.h"

#include "approval_scene.h"
#include "vtpm/chip/policy.h"

using namespace vtpm;
using namespace vtpm::chip;
using namespace vtpm::chip_tests;
using fakes::FakeChip;
using fakes::Swtpm;
using fakes::TemporaryDirectory;

namespace {

// A chip, and what its host does to it.
struct Host {
    std::function<Chip&()> chip;
    std::function<void(const Digest&)> measure;  // something into PCR 16
    std::function<void()> reset;
};

void play(const Host& host, const Signer& signer) {
    const auto secret = secret_of(known);
    const auto key = host.chip().approver_key(signer.pem());
    const auto counter = host.chip().define_counter(counter_tag);
    const auto latch = host.chip().define_latch(latch_tag);
    REQUIRE((fine(key) && fine(counter) && fine(latch)));
    CHECK(counter->index != latch->index);
    const Binding binding{Approver{*key, reference, *counter}, *latch};
    const auto sealed = host.chip().seal(secret, binding);
    REQUIRE(fine(sealed));

    const auto approve = [&](std::uint64_t limit) {
        const auto pcrs = host.chip().read_pcrs({4, 16});
        REQUIRE(fine(pcrs));
        const auto words = host.chip().words_to_sign(*binding.approver, *pcrs, limit);
        REQUIRE(fine(words));
        return Approval{*pcrs, limit, signer.sign(*words)};
    };
    const auto outcome = [&](const SealedObject& object, const Binding& with,
                             const Approval* approval) -> std::string {
        const auto got = host.chip().unseal(object, with, approval);
        if (!got)
            return std::string(to_string(got.error().code));
        return equal_constant_time(got->view(), secret.view()) ? "opens" : "wrong";
    };
    const auto value = host.chip().read_counter(*counter);
    REQUIRE(fine(value));
    const Approval good = approve(*value);
    CHECK(outcome(*sealed, binding, &good) == "opens");
    CHECK(outcome(*sealed, binding, nullptr) == "not-approved");
    CHECK(outcome(*sealed, {}, &good) == "corrupt");
    CHECK(outcome(*sealed, {binding.approver, std::nullopt}, &good) == "corrupt");
    CHECK(outcome(*sealed, {std::nullopt, *latch}, &good) == "corrupt");
    Approval bad = good;
    bad.limit += 1;
    CHECK(outcome(*sealed, binding, &bad) == "not-approved");
    bad = good;
    bad.pcrs.clear();
    CHECK(outcome(*sealed, binding, &bad) == "not-approved");
    bad = good;
    bad.signature.clear();
    CHECK(outcome(*sealed, binding, &bad) == "not-approved");
    Binding broken = binding;
    broken.approver->key.pop_back();
    CHECK(outcome(*sealed, broken, &good) == "invalid-argument");
    CHECK(host.chip().seal(secret, broken).error().code == Errc::invalid_argument);
    CHECK(host.chip().read_pcrs({}).error().code == Errc::invalid_argument);
    CHECK(host.chip().read_pcrs({24}).error().code == Errc::invalid_argument);

    CHECK_FALSE(*host.chip().latch_closed(*latch));
    REQUIRE(fine(host.chip().close_latch(*latch)));
    REQUIRE(fine(host.chip().close_latch(*latch)));
    CHECK(*host.chip().latch_closed(*latch));
    CHECK(outcome(*sealed, binding, &good) == "latched");
    CHECK(outcome(*sealed, binding, nullptr) == "not-approved");
    const Binding only_latch{std::nullopt, *latch};
    const auto while_closed = host.chip().seal(secret, only_latch);
    REQUIRE(fine(while_closed));
    CHECK(outcome(*while_closed, only_latch, nullptr) == "latched");
    host.reset();
    CHECK(outcome(*sealed, binding, &good) == "opens");
    CHECK(outcome(*while_closed, only_latch, nullptr) == "opens");

    host.measure(filled(0x99));
    CHECK(outcome(*sealed, binding, &good) == "not-approved");
    const Approval other = approve(*value);
    CHECK(outcome(*sealed, binding, &other) == "opens");
    CHECK(*host.chip().increment_counter(*counter) == *value + 1);
    CHECK(outcome(*sealed, binding, &other) == "not-approved");
    const Approval last = approve(*value + 1);
    CHECK(outcome(*sealed, binding, &last) == "opens");

    // Made again: the counter is above all that were, and the latch is another.
    REQUIRE(fine(host.chip().remove_cell(counter->index)));
    CHECK(host.chip().remove_cell(counter->index).error().code == Errc::wrong_cell);
    CHECK(outcome(*sealed, binding, &last) == "not-approved");
    const auto again = host.chip().define_counter(counter_tag);
    REQUIRE(fine(again));
    CHECK(again->index == counter->index);
    CHECK(*host.chip().read_counter(*again) > *value + 1);
    CHECK(outcome(*sealed, binding, &last) == "not-approved");
    const Approval newest = approve(*host.chip().read_counter(*again));
    CHECK(outcome(*sealed, binding, &newest) == "opens");
    REQUIRE(fine(host.chip().remove_other_cells({again->index, latch_tag})));
    CHECK(host.chip().latch_closed(*latch).error().code == Errc::wrong_cell);
    CHECK(outcome(*sealed, binding, &newest) == "latched");
    const auto shut = host.chip().define_latch(latch_tag);
    REQUIRE(fine(shut));
    CHECK((shut->index == latch->index && shut->value > latch->value));
    CHECK(outcome(*sealed, binding, &newest) == "latched");
    CHECK(host.chip().latch_closed(*latch).error().code == Errc::wrong_cell);
    CHECK(host.chip().seal(secret, only_latch).error().code == Errc::wrong_cell);
    CHECK(host.chip().seal(secret, binding).error().code == Errc::wrong_cell);
    CHECK(host.chip().close_latch({again->index, counter_tag}).error().code == Errc::wrong_cell);
    REQUIRE(fine(host.chip().remove_cell(again->index)));
    const Binding only_approver{binding.approver, std::nullopt};
    CHECK(host.chip().seal(secret, only_approver).error().code == Errc::wrong_cell);
    CHECK(host.chip().read_counter({shut->index, latch_tag}).error().code == Errc::wrong_cell);
}

}  // namespace

TEST_CASE("a real chip's scene") {
    const TemporaryDirectory place;
    Swtpm swtpm(place.path());
    auto chip = pinned(swtpm.tcti());
    play({[&]() -> Chip& { return *chip; },
          [&](const Digest& digest) {
              chip.reset();
              extend_pcr(swtpm, 16, digest);
              chip = pinned(swtpm.tcti());
          },
          [&] {
              swtpm.restart();
              chip = pinned(swtpm.tcti());
          }},
         Signer(place.path(), p256));
}

TEST_CASE("the same scene, played to the fake") {
    const TemporaryDirectory place;
    FakeChip chip;
    REQUIRE(fine(chip.expect(*chip.identify())));
    play({[&]() -> Chip& { return chip; }, [&](const Digest& digest) { chip.set_pcr(16, digest); },
          [&] { chip.reset(); }},
         Signer(place.path(), p256));
    chip.lose_pcr_bank();
    CHECK(chip.read_pcrs({1}).error().code == Errc::unsupported);
}
