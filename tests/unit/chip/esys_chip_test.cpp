// EsysChip against a real swtpm: what it promises.
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>

#include "scene.h"

using namespace vtpm;
using namespace vtpm::chip_tests;
using chip::EsysChip;
using fakes::in_memory;
using fakes::SocketTap;
using fakes::Swtpm;
using fakes::TemporaryDirectory;

TEST_CASE("a chip unseals what it sealed, also after a restart") {
    const TemporaryDirectory directory;
    Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    CHECK(chip->unseal(*sealed, {}, nullptr)->size() == known.size());
    swtpm.restart();
    const auto again = chip->unseal(*sealed, {}, nullptr);  // connects again by itself
    REQUIRE(fine(again));
    CHECK(equal_constant_time(again->view(), as_bytes(known)));
}

TEST_CASE("sizes of secrets and of random bytes") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    CHECK(chip->seal(SecretBytes(), {}).error().code == Errc::invalid_argument);
    CHECK(chip->seal(SecretBytes(129), {}).error().code == Errc::too_large);
    const auto largest = chip->seal(SecretBytes(128), {});
    REQUIRE(fine(largest));
    CHECK(chip->unseal(*largest, {}, nullptr)->size() == 128);
    const auto one = chip->random(1024);
    const auto other = chip->random(1024);
    REQUIRE(fine(one));
    REQUIRE(other);
    CHECK(one->size() == 1024);
    CHECK_FALSE(equal_constant_time(one->view(), other->view()));
    CHECK(chip->random(0).error().code == Errc::invalid_argument);
    CHECK(chip->random(1025).error().code == Errc::too_large);
}

TEST_CASE("the storage root key is the same after a restart, and says whose chip it is") {
    const TemporaryDirectory directory;
    Swtpm swtpm(directory.path());
    const auto before = opened(swtpm.tcti())->identify();
    REQUIRE(fine(before));
    swtpm.restart();
    const auto after = opened(swtpm.tcti())->identify();
    REQUIRE(fine(after));
    CHECK(before->srk_public == after->srk_public);
    CHECK(before->srk_name == after->srk_name);
    CHECK(before->srk_name.size() == 34);
    CHECK(before->manufacturer == "IBM");
    CHECK_FALSE(before->firmware.empty());
}

TEST_CASE("nothing secret is done before an identity is pinned") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto chip = opened(swtpm.tcti());
    CHECK(chip->seal(secret_of(known), {}).error().code == Errc::invalid_argument);
    CHECK(chip->unseal({}, {}, nullptr).error().code == Errc::invalid_argument);
    CHECK(chip->random(8).error().code == Errc::invalid_argument);
}

TEST_CASE("another chip is told from the pinned one") {
    const TemporaryDirectory directory;
    const Swtpm first(directory.path() / "1");
    const Swtpm second(directory.path() / "2");
    const auto mine = pinned(first.tcti());
    const auto sealed = mine->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    const auto identity = mine->identify();
    REQUIRE(identity);

    const auto other = opened(second.tcti());
    CHECK(other->expect(*identity).error().code == Errc::wrong_chip);
    CHECK(other->random(8).error().code == Errc::invalid_argument);  // the pin did not stick

    auto wrong_name = *identity;
    wrong_name.srk_name.back() ^= 1U;
    CHECK(mine->expect(wrong_name).error().code == Errc::wrong_chip);
    // As far as the chip says what has become of that one.
    const auto told = [&](const chip::ChipIdentity& then, const std::string& words) {
        return mine->expect(then).error().context.find(words) != std::string::npos;
    };
    CHECK(told(wrong_name, "the chip does not tell which"));
    wrong_name.firmware = "1.2.3.4";
    CHECK(told(wrong_name, ", not 1.2.3.4. It was exchanged for another chip, or updated and"));
    wrong_name.manufacturer = "XYZ";
    CHECK(told(wrong_name, ", not XYZ. It was exchanged for another chip"));
    CHECK_FALSE(told(wrong_name, "cleared"));
    auto wrong_key = *identity;
    wrong_key.srk_public.back() ^= 1U;
    CHECK(mine->expect(wrong_key).error().code == Errc::wrong_chip);
    auto no_key = *identity;
    no_key.srk_public.pop_back();
    CHECK(mine->expect(no_key).error().code == Errc::corrupt);
    CHECK(mine->unseal(*sealed, {}, nullptr));

    // Sealed by one, loaded into the other, which knows only itself.
    CHECK(pinned(second.tcti())->unseal(*sealed, {}, nullptr).error().code == Errc::wrong_chip);
}

// As after its driver has found another chip in its place: nothing of the pinned one's goes there.
TEST_CASE("a TPM 2.0 that was exchanged behind our back is noticed") {
    const TemporaryDirectory directory;
    Swtpm swtpm(directory.path() / "a");
    const Swtpm other(directory.path() / "b");
    const auto path = directory.path() / "chip";
    const auto put = [&](const Swtpm& which) {
        for (const char* const end : {"", ".ctrl"}) {
            std::filesystem::remove(path.string() + end);
            std::filesystem::create_symlink(which.socket().string() + end, path.string() + end);
        }
    };
    put(swtpm);
    const auto chip = pinned("swtpm:path=" + path.string());
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));

    put(other);
    swtpm.kill();
    CHECK(chip->random(8).error().code == Errc::wrong_chip);
    CHECK(chip->seal(secret_of(known), {}).error().code == Errc::wrong_chip);
    CHECK(chip->unseal(*sealed, {}, nullptr).error().code == Errc::wrong_chip);
    CHECK(chip->read_pcrs({0}).error().code == Errc::wrong_chip);
    CHECK(chip->define_cell(secret_of(known), {}).error().code == Errc::wrong_chip);

    swtpm.start();
    put(swtpm);
    const auto back = chip->unseal(*sealed, {}, nullptr);
    REQUIRE(fine(back));
    CHECK(equal_constant_time(back->view(), as_bytes(known)));
}

TEST_CASE("a changed sealed object is refused") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    for (std::size_t at = 0; at < sealed->private_area.size(); at += 7) {
        auto bad = *sealed;
        bad.private_area[at] ^= 0x10U;
        const auto answer = chip->unseal(bad, {}, nullptr);
        INFO("private byte " << at);
        REQUIRE_FALSE(answer);
        CHECK((answer.error().code == Errc::wrong_chip || answer.error().code == Errc::corrupt));
    }
    for (std::size_t at = 0; at < sealed->public_area.size(); ++at) {
        auto bad = *sealed;
        bad.public_area[at] ^= 0x01U;
        INFO("public byte " << at);
        CHECK_FALSE(chip->unseal(bad, {}, nullptr));
    }
    auto cut = *sealed;
    cut.private_area.pop_back();
    CHECK(chip->unseal(cut, {}, nullptr).error().code == Errc::corrupt);
    auto longer = *sealed;
    longer.public_area.push_back(0);
    CHECK(chip->unseal(longer, {}, nullptr).error().code == Errc::corrupt);
    CHECK(chip->unseal({}, {}, nullptr).error().code == Errc::corrupt);
    CHECK(fine(chip->unseal(*sealed, {}, nullptr)));
}

TEST_CASE("a sealed object opens by policy only") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto sealed = pinned(swtpm.tcti())->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    // The policy is what the header says: PolicyCommandCode(TPM2_Unseal) from zero, Part 3 23.11.
    const Bytes extended = ByteWriter().bytes(Bytes(32)).u32(0x0000016c).u32(0x0000015e).take();
    Bytes digest(32);
    REQUIRE(EVP_Digest(extended.data(), extended.size(), digest.data(), nullptr, EVP_sha256(),
                       nullptr) == 1);
    const auto& area = sealed->public_area;
    CHECK(std::search(area.begin(), area.end(), digest.begin(), digest.end()) != area.end());

    // Other software with the same key loads it; its own empty password does not open it.
    const auto at = [&](const char* name) { return (directory.path() / name).string(); };
    write_file(at("pub"), area);
    write_file(at("priv"), sealed->private_area);
    tool(swtpm, "tpm2_load -C " + srk_by_tools(swtpm, directory.path()) + " -u " + at("pub") +
                    " -r " + at("priv") + " -c " + at("obj"));
    tool(swtpm, "tpm2_flushcontext -t");
    CHECK(tool(swtpm, "tpm2_unseal -c " + at("obj") + " || echo refused") == "refused\n");
    tool(swtpm, "tpm2_flushcontext -t");
    tool(swtpm, "tpm2_startauthsession --policy-session -S " + at("session"));
    tool(swtpm, "tpm2_policycommandcode -S " + at("session") + " TPM2_CC_Unseal");
    CHECK(tool(swtpm, "tpm2_unseal -c " + at("obj") + " -p session:" + at("session")) == known);
}

TEST_CASE("the persistent key is used if it is the pinned one, and left alone if it is not") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));

    SECTION("a stranger's key sits at the handle") {
        const std::string context = (directory.path() / "ctx").string();
        tool(swtpm, "tpm2_createprimary -C o -G rsa -c " + context);
        tool(swtpm, "tpm2_evictcontrol -C o -c " + context + " 0x81000001");
        tool(swtpm, "tpm2_flushcontext -t");
        CHECK(fine(chip->unseal(*sealed, {}, nullptr)));
        CHECK(tool(swtpm, "tpm2_getcap handles-persistent") == "- 0x81000001\n");
        CHECK(tool(swtpm, "tpm2_readpublic -c 0x81000001").find("rsa") != std::string::npos);
    }
    SECTION("it is our key, and then the owner's password does not matter") {
        tool(swtpm,
             "tpm2_evictcontrol -C o -c " + srk_by_tools(swtpm, directory.path()) + " 0x81000001");
        tool(swtpm, "tpm2_flushcontext -t");
        tool(swtpm, "tpm2_changeauth -c owner password");
        CHECK(fine(chip->unseal(*sealed, {}, nullptr)));
        const auto fresh = chip->identify();
        REQUIRE_FALSE(fresh);
        CHECK(fresh.error().code == Errc::permission);
        CHECK(fresh.error().next == NextAction::ask_operator);
        CHECK(fresh.error().context.find("password") != std::string::npos);
        CHECK(tool(swtpm, "tpm2_getcap handles-persistent") == "- 0x81000001\n");
    }
}

TEST_CASE("a chip that goes away is unavailable, and may come back") {
    const TemporaryDirectory directory;
    Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    const auto sealed = chip->seal(secret_of(known), {});
    REQUIRE(fine(sealed));
    swtpm.kill();
    for (int i = 0; i < 2; ++i) {
        const auto gone = chip->unseal(*sealed, {}, nullptr);
        REQUIRE_FALSE(gone);
        CHECK(gone.error().code == Errc::unavailable);
        CHECK(gone.error().next == NextAction::retry_later);
    }
    CHECK(chip->identify().error().code == Errc::unavailable);
    CHECK(chip->random(8).error().code == Errc::unavailable);
    swtpm.start();
    CHECK(fine(chip->unseal(*sealed, {}, nullptr)));
}

TEST_CASE("a chip that was not started is started") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path(), "not-need-init");
    CHECK(opened(swtpm.tcti())->identify());
}

TEST_CASE("no chip, no permission") {
    CHECK(EsysChip::open("device:/nowhere/tpm0").error().code == Errc::unavailable);
    CHECK(EsysChip::open("swtpm:path=/nowhere/sock").error().code == Errc::unavailable);
    CHECK(EsysChip::open("").error().code == Errc::invalid_argument);

    // Of root alone, as a device is until udev has given it to somebody: that may come.
    const TemporaryDirectory directory;
    const uid_t root = ::geteuid();
    REQUIRE(::seteuid(65534) == 0);
    const auto refused = EsysChip::open("device:" + (directory.path() / "tpm0").string());
    REQUIRE(::seteuid(root) == 0);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::permission);
    CHECK(refused.error().next == NextAction::retry_later);
}
