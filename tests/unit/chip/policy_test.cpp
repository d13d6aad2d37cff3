// The policies that we compute in software against those of the chip's trial sessions.
#include "vtpm/chip/policy.h"

#include <algorithm>

#include "approval_scene.h"

using namespace vtpm;
using namespace vtpm::chip;
using namespace vtpm::chip_tests;

TEST_CASE("without a binding the policy is the one that older objects have") {
    CHECK(to_hex(*policy::digest_of({})) ==
          "e613137076524bde487533865884e9732ebee3aacb095d94a6de492ec06c46fa");
}

TEST_CASE("the chip's trial sessions come to the same digests") {
    ApprovalScene s(GENERATE(p256, rsa2048), true);
    const auto& approver = *s.binding.approver;
    const auto& latch = *s.binding.latch;
    const std::uint64_t limit = 0x0102030405060708;
    const auto words = s.chip->words_to_sign(approver, s.pcrs({0, 7, 9, 16, 23}), limit);
    REQUIRE(fine(words));
    s.chip.reset();

    const auto at = [&](const char* name) { return (s.directory.path() / name).string(); };
    const auto index = [](CellIndex number) {
        return "0x" + to_hex(ByteWriter().u32(number).written());
    };
    const auto in_session = [&](const std::string& command, const std::string& words_of_it) {
        tool(s.swtpm, command + " -S " + at("session") + " -L " + at("policy") + " " + words_of_it);
        return read_file(at("policy"));
    };
    const auto as_vector = [](const Digest& digest) { return Bytes(digest.begin(), digest.end()); };

    write_file(at("limit"), ByteWriter().u64(limit).take());
    tool(s.swtpm, "tpm2_startauthsession -S " + at("session"));
    in_session("tpm2_policypcr", "-l sha256:0,7,9,16,23");
    const Bytes boot =
        in_session("tpm2_policynv", "-C " + index(approver.counter.index) + " -i " + at("limit") +
                                        " " + index(approver.counter.index) + " ule");
    tool(s.swtpm, "tpm2_flushcontext " + at("session"));
    CHECK(boot == Bytes(words->begin(), words->begin() + 32));
    CHECK(Bytes(words->begin() + 32, words->end()) == as_vector(reference));

    write_file(at("key.tpm"), approver.key);
    tool(s.swtpm, "tpm2_loadexternal -C o -u " + at("key.tpm") + " -c " + at("key.ctx") + " -n " +
                      at("name"));
    tool(s.swtpm, "tpm2_flushcontext -t");
    write_file(at("boot"), boot);
    write_file(at("value"), ByteWriter().u64(latch.value).take());
    const auto by_chip = [&](bool approved, bool latched) {
        tool(s.swtpm, "tpm2_startauthsession -S " + at("session"));
        if (approved) {
            in_session("tpm2_policyauthorize",
                       "-i " + at("boot") + " -q " + to_hex(reference) + " -n " + at("name"));
        }
        if (latched) {
            in_session("tpm2_policynv", "-C " + index(latch.index) + " -i " + at("value") + " " +
                                            index(latch.index) + " eq");
        }
        const Bytes all = in_session("tpm2_policycommandcode", "TPM2_CC_Unseal");
        tool(s.swtpm, "tpm2_flushcontext " + at("session"));
        return all;
    };
    CHECK(by_chip(true, true) == as_vector(*policy::digest_of(s.binding)));
    CHECK(by_chip(true, false) == as_vector(*policy::digest_of({approver, std::nullopt})));
    CHECK(by_chip(false, true) == as_vector(*policy::digest_of({std::nullopt, latch})));
    CHECK(by_chip(false, false) == as_vector(*policy::digest_of({})));
    // And what was sealed has it.
    const Bytes& area = s.sealed.public_area;
    const auto digest = *policy::digest_of(s.binding);
    CHECK(std::search(area.begin(), area.end(), digest.begin(), digest.end()) != area.end());
}
