// Approvals on a real (software) TPM: which boots unseal, and what does not pass for an approval.
#include <algorithm>

#include "approval_scene.h"
#include "vtpm/chip/policy.h"

using namespace vtpm;
using namespace vtpm::chip;
using namespace vtpm::chip_tests;
using fakes::Swtpm;
using fakes::TemporaryDirectory;

TEST_CASE("an approved boot unseals, another does not, and the next one can be approved before") {
    ApprovalScene s;
    const Approval now = s.approve_now();
    CHECK(fine(s.chip->check_approval(*s.binding.approver, now)));
    CHECK(s.opens(now));
    CHECK(s.chip->unseal(s.sealed, s.binding, nullptr).error().code == Errc::not_approved);

    // What the next boot will measure, approved while this one runs.
    PcrValues predicted = now.pcrs;
    const auto value = policy::digest_of(s.binding);  // any 32 bytes
    REQUIRE(fine(value));
    const TemporaryDirectory other;
    const Swtpm trial(other.path());
    extend_pcr(trial, 16, *value);
    predicted[16] = pinned(trial.tcti())->read_pcrs({16})->at(16);
    REQUIRE(predicted != now.pcrs);
    const Approval next = s.approve(predicted, s.counter_value());
    CHECK(s.refusal(next) == Errc::not_approved);
    CHECK(s.opens(now));

    s.chip.reset();
    extend_pcr(s.swtpm, 16, *value);
    s.chip = pinned(s.tap.tcti());
    CHECK(s.opens(next));
    const auto refused = s.unseal(now);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::not_approved);
    CHECK(refused.error().next == NextAction::ask_operator);
    CHECK(refused.error().context.find("PCR 16 has another value") != std::string::npos);
    // A PCR that the approval does not name may have any value.
    CHECK(s.opens(s.approve(s.pcrs({0, 1}), s.counter_value())));

    s.reset_chip();
    CHECK(s.opens(now));
    CHECK(s.refusal(next) == Errc::not_approved);
}

TEST_CASE("approvals are signed by the openssl command line, with P-256 or RSA") {
    const std::string options = GENERATE(p256, rsa2048, rsa3072);
    INFO(options);
    ApprovalScene s(options);
    const Approval good = s.approve_now();
    CHECK(s.opens(good));
    // Another key, another host's reference, a changed limit, a changed value: none passes, in
    // software nor in the chip.
    const TemporaryDirectory elsewhere;
    const auto check = [&](const Binding& binding, const Approval& approval) {
        CHECK(s.chip->check_approval(*binding.approver, approval).error().code ==
              Errc::not_approved);
        CHECK(s.refusal(approval) == Errc::not_approved);
    };
    for (std::size_t at = 0; at < good.signature.size(); at += 5) {
        Approval bad = good;
        bad.signature[at] ^= 0x04U;
        INFO("byte " << at);
        check(s.binding, bad);
    }
    Approval bad = good;
    bad.limit += 1;
    check(s.binding, bad);
    bad = good;
    bad.pcrs.erase(0);
    check(s.binding, bad);
    bad = good;
    bad.pcrs[4][0] ^= 1U;
    check(s.binding, bad);
    bad = good;
    bad.pcrs[7] = filled(0);
    check(s.binding, bad);
    bad.pcrs = good.pcrs;
    bad.signature = Signer(elsewhere.path(), options)
                        .sign(*s.chip->words_to_sign(*s.binding.approver, good.pcrs, good.limit));
    check(s.binding, bad);
    Binding host = s.binding;
    host.approver->reference[31] ^= 1U;
    CHECK(s.chip->check_approval(*host.approver, good).error().code == Errc::not_approved);
    CHECK(s.chip->unseal(s.sealed, host, &good).error().code == Errc::corrupt);
    CHECK(s.opens(good));
}

TEST_CASE("one approver's secret does not open with an approval for another's, in the chip") {
    ApprovalScene s;
    const Approval good = s.approve_now();
    Binding other = s.binding;
    other.approver->reference = filled(0x53);
    const auto sealed = s.chip->seal(secret_of("another secret"), other);
    REQUIRE(fine(sealed));
    CHECK(s.chip->unseal(*sealed, other, &good).error().code == Errc::not_approved);
    // A forger who has the software on his side, with the words that would do.
    const Approval forged = s.approve_now();
    const auto words = s.chip->words_to_sign(*other.approver, good.pcrs, good.limit);
    REQUIRE(fine(words));
    CHECK(*words != *s.chip->words_to_sign(*s.binding.approver, good.pcrs, good.limit));
    CHECK(std::equal(words->begin(), words->begin() + 32,
                     s.chip->words_to_sign(*s.binding.approver, good.pcrs, good.limit)->begin()));
    CHECK(std::equal(words->begin() + 32, words->end(), other.approver->reference.begin()));
    const Approval right{good.pcrs, good.limit, s.signer.sign(*words)};
    CHECK(fine(s.chip->unseal(*sealed, other, &right)));
    CHECK(s.chip->unseal(*sealed, s.binding, &good).error().code == Errc::corrupt);
    CHECK(s.refusal(right) == Errc::not_approved);
}

TEST_CASE("the counter revokes what was approved up to its old value") {
    ApprovalScene s;
    const auto counter = s.binding.approver->counter;
    const std::uint64_t first = s.counter_value();
    const Approval now = s.approve(s.pcrs(), first);
    const Approval longer = s.approve(s.pcrs(), first + 1);
    CHECK(s.opens(now));
    CHECK(s.opens(longer));
    REQUIRE(*s.chip->increment_counter(counter) == first + 1);
    CHECK(s.refusal(now) == Errc::not_approved);
    CHECK(s.unseal(now).error().context.find("revoked") != std::string::npos);
    CHECK(s.opens(longer));
    s.reset_chip();
    CHECK(s.counter_value() == first + 1);
    CHECK(s.refusal(now) == Errc::not_approved);
    REQUIRE(*s.chip->increment_counter(counter) == first + 2);
    CHECK(s.refusal(longer) == Errc::not_approved);
    CHECK(s.opens(s.approve(s.pcrs(), ~0ULL)));
}

TEST_CASE("approvals out of bounds are refused before they reach the chip") {
    ApprovalScene s;
    const auto& approver = *s.binding.approver;
    const Approval good = s.approve_now();
    CHECK(s.chip->words_to_sign(approver, {}, 1).error().code == Errc::invalid_argument);
    CHECK(s.chip->words_to_sign(approver, {{24, {}}}, 1).error().code == Errc::invalid_argument);
    CHECK(s.chip->read_pcrs({}).error().code == Errc::invalid_argument);
    CHECK(s.chip->read_pcrs({24}).error().code == Errc::invalid_argument);
    PcrValues many;
    for (std::uint8_t n = 0; n < 25; ++n)
        many[n] = filled(n);
    int commands = 0;
    s.tap.meddle([&](Bytes& command, Bytes&) {
        const auto code = command_code(command);
        commands += code == 0x167U || code == 0x177U || code == 0x157U ? 1 : 0;  // LoadExternal,
        return true;  // VerifySignature, Load
    });
    for (const auto& bad : std::vector<Approval>{{{}, good.limit, good.signature},
                                                 {many, good.limit, good.signature},
                                                 {good.pcrs, good.limit, {}},
                                                 {good.pcrs, good.limit, Bytes(1, 0x30)},
                                                 {good.pcrs, good.limit, Bytes(64)},
                                                 {good.pcrs, good.limit, Bytes(1 << 20, 0x30)}}) {
        CHECK(s.refusal(bad) == Errc::not_approved);
        CHECK(s.chip->check_approval(approver, bad).error().code == Errc::not_approved);
    }
    Approval longer = good;
    longer.signature.push_back(0);
    CHECK(s.refusal(longer) == Errc::not_approved);
    s.tap.meddle(nullptr);
    CHECK(commands == 0);

    // All of them, each a boot that may unseal.
    std::vector<std::uint8_t> all(24);
    for (std::uint8_t n = 0; n < 24; ++n)
        all[n] = n;
    CHECK(s.opens(s.approve(s.pcrs(all), good.limit)));

    Binding broken = s.binding;
    for (std::size_t at = 0; at < 30; ++at) {
        broken.approver->key = approver.key;
        broken.approver->key[at] ^= 1U;
        CHECK(s.chip->seal(secret_of(known), broken).error().code == Errc::invalid_argument);
        CHECK(s.chip->check_approval(*broken.approver, good).error().code ==
              Errc::invalid_argument);
    }
    broken.approver->key.clear();
    CHECK(s.chip->seal(secret_of(known), broken).error().code == Errc::invalid_argument);
    CHECK(s.chip->unseal(s.sealed, broken, &good).error().code == Errc::invalid_argument);
}

TEST_CASE("keys that do not approve") {
    const TemporaryDirectory place;
    EsysChip chip("swtpm:path=/nowhere/sock");  // is not asked
    const auto key_of = [&](const std::string& options) {
        return chip.approver_key(Signer(place.path(), options).pem());
    };
    CHECK(fine(key_of(p256)));
    CHECK(key_of(p256)->size() == 90);
    for (const auto* const options :
         {"-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
          "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
          "-algorithm RSA -pkeyopt rsa_keygen_bits:1024",
          "-algorithm RSA -pkeyopt rsa_keygen_bits:2056",
          "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
          "-algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3",
          "-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", "-algorithm ED25519"}) {
        INFO(options);
        const auto refused = key_of(options);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Errc::invalid_argument);
    }
    const Signer signer(place.path(), p256);
    const std::string good = signer.pem();
    CHECK(fine(chip.approver_key("a line before\n" + good)));
    // What people compare.
    for (const std::string& options : {p256, rsa2048, rsa3072}) {
        const Signer other(place.path(), options);
        const std::string der = (place.path() / "der").string();
        run_command("openssl pkey -pubin -in " + (place.path() / "pub").string() +
                    " -outform DER -out " + der);
        run_command("openssl dgst -sha256 -binary -out " + (place.path() / "sum").string() + " " +
                    der);
        const Bytes sum = read_file(place.path() / "sum");
        const auto key = chip.approver_key(other.pem());
        REQUIRE(fine(key));
        const auto fingerprint = chip.approver_fingerprint(*key);
        REQUIRE(fine(fingerprint));
        CHECK(to_hex(*fingerprint) == to_hex(sum));
    }
    const auto none = chip.approver_fingerprint({});
    REQUIRE_FALSE(none);
    CHECK(none.error().code == Errc::invalid_argument);
    for (const std::string& bad :
         {std::string(), std::string("garbage"), good.substr(0, 80), good.substr(30),
          std::string(good).replace(60, 1, "!"), std::string(20'000, '\n') + good,
          signer.private_pem(), signer.private_pem() + good}) {
        const auto refused = chip.approver_key(bad);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == Errc::invalid_argument);
    }
    CHECK(chip.approver_key(signer.private_pem()).error().context.find("private key") !=
          std::string::npos);
}

TEST_CASE("PCRs are read, and a chip without a SHA-256 bank says so") {
    const TemporaryDirectory place;
    Swtpm swtpm(place.path());
    auto chip = pinned(swtpm.tcti());
    std::vector<std::uint8_t> all{5, 5};
    for (std::uint8_t n = 0; n < 24; ++n)
        all.push_back(n);
    const auto values = chip->read_pcrs(all);
    REQUIRE(fine(values));
    REQUIRE(values->size() == 24);
    CHECK(values->at(0) == filled(0));
    CHECK(values->at(18) == filled(0xff));  // no dynamic launch was
    chip.reset();
    extend_pcr(swtpm, 9, filled(3));
    chip = pinned(swtpm.tcti());
    const auto later = chip->read_pcrs({9, 1});
    REQUIRE(fine(later));
    CHECK(later->at(1) == filled(0));
    CHECK(tool(swtpm, "tpm2_pcrread -o /dev/stdout -Q sha256:9")
              .find(std::string(later->at(9).begin(), later->at(9).end())) != std::string::npos);
    CHECK(policy::differing(*values, *later) ==
          "0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23");

    chip.reset();
    tool(swtpm, "tpm2_pcrallocate sha1:all+sha256:none");
    swtpm.restart();
    chip = pinned(swtpm.tcti());
    const auto none = chip->read_pcrs({0});
    REQUIRE_FALSE(none);
    CHECK(none.error().code == Errc::unsupported);
    CHECK(none.error().context.find("SHA-256 bank") != std::string::npos);
}
