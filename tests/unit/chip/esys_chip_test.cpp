// EsysChip against a real swtpm.
#include "vtpm/chip/esys_chip.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <fstream>

#include "fakes/chip/memory_scan.h"
#include "fakes/chip/swtpm.h"

using namespace vtpm;
using chip::EsysChip;
using fakes::in_memory;
using fakes::SocketTap;
using fakes::Swtpm;
using fakes::TemporaryDirectory;

namespace {

SecretBytes secret_of(std::string_view text) {
    return SecretBytes::copy_of(as_bytes(text));
}

constexpr std::string_view known = "thirty-two bytes, not so secret.";

template <typename T>
bool fine(const Result<T>& result) {
    if (!result)
        UNSCOPED_INFO(to_string(result.error().code) << ": " << result.error().context);
    return result.has_value();
}

std::unique_ptr<EsysChip> opened(const std::string& tcti) {
    auto chip = EsysChip::open(tcti);
    if (!chip)
        FAIL(chip.error().context);
    return std::move(*chip);
}

std::unique_ptr<EsysChip> pinned(const std::string& tcti) {
    auto chip = opened(tcti);
    const auto identity = chip->identify();
    if (!identity)
        FAIL(identity.error().context);
    const auto expected = chip->expect(*identity);
    if (!expected)
        FAIL(expected.error().context);
    return chip;
}

std::uint32_t command_code(const Bytes& command) {
    ByteReader reader(command);
    (void)reader.bytes(6);
    return reader.u32().value_or(0);
}

// A tpm2-tools program on the chip; its output.
std::string tool(const Swtpm& chip, const std::string& words) {
    const std::string line =
        "TPM2TOOLS_TCTI=" + chip.tcti() + " TSS2_LOG=all+NONE " + words + " 2>/dev/null";
    std::string out;
    FILE* const pipe = ::popen(line.c_str(), "r");
    REQUIRE(pipe != nullptr);
    std::array<char, 256> part{};
    while (std::fgets(part.data(), part.size(), pipe) != nullptr)
        out += part.data();
    INFO(line);
    REQUIRE(::pclose(pipe) == 0);
    return out;
}

void write_file(const std::string& path, const Bytes& bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
}

// Our storage root key, made by tpm2-tools from the published template; a context file.
std::string srk_by_tools(const Swtpm& chip, const std::filesystem::path& directory) {
    const std::string unique = (directory / "unique").string();
    const std::string context = (directory / "srk.ctx").string();
    Bytes zeros(260);  // the tool wants x and y as C structs: a size in host order, 128 bytes
    zeros[0] = zeros[130] = 32;
    write_file(unique, zeros);
    tool(chip,
         "tpm2_createprimary -C o -G ecc256:aes128cfb -g sha256 -a 'fixedtpm|fixedparent|"
         "sensitivedataorigin|userwithauth|noda|restricted|decrypt' -u " +
             unique + " -c " + context);
    tool(chip, "tpm2_flushcontext -t");
    return context;
}

}  // namespace

TEST_CASE("a chip unseals what it sealed, also after a restart") {
    const TemporaryDirectory directory;
    Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    const auto sealed = chip->seal(secret_of(known));
    REQUIRE(fine(sealed));
    CHECK(chip->unseal(*sealed)->size() == known.size());
    swtpm.restart();
    const auto again = chip->unseal(*sealed);  // connects again by itself
    REQUIRE(fine(again));
    CHECK(equal_constant_time(again->view(), as_bytes(known)));
}

TEST_CASE("sizes of secrets and of random bytes") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    CHECK(chip->seal(SecretBytes()).error().code == Errc::invalid_argument);
    CHECK(chip->seal(SecretBytes(129)).error().code == Errc::too_large);
    const auto largest = chip->seal(SecretBytes(128));
    REQUIRE(fine(largest));
    CHECK(chip->unseal(*largest)->size() == 128);
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
    CHECK(chip->seal(secret_of(known)).error().code == Errc::invalid_argument);
    CHECK(chip->unseal({}).error().code == Errc::invalid_argument);
    CHECK(chip->random(8).error().code == Errc::invalid_argument);
}

TEST_CASE("another chip is told from the pinned one") {
    const TemporaryDirectory directory;
    const Swtpm first(directory.path() / "1");
    const Swtpm second(directory.path() / "2");
    const auto mine = pinned(first.tcti());
    const auto sealed = mine->seal(secret_of(known));
    REQUIRE(fine(sealed));
    const auto identity = mine->identify();
    REQUIRE(identity);

    const auto other = opened(second.tcti());
    CHECK(other->expect(*identity).error().code == Errc::wrong_chip);
    CHECK(other->random(8).error().code == Errc::invalid_argument);  // the pin did not stick

    auto wrong_name = *identity;
    wrong_name.srk_name.back() ^= 1U;
    CHECK(mine->expect(wrong_name).error().code == Errc::wrong_chip);
    auto wrong_key = *identity;
    wrong_key.srk_public.back() ^= 1U;
    CHECK(mine->expect(wrong_key).error().code == Errc::wrong_chip);
    auto no_key = *identity;
    no_key.srk_public.pop_back();
    CHECK(mine->expect(no_key).error().code == Errc::corrupt);
    CHECK(mine->unseal(*sealed));

    // Sealed by one, loaded into the other, which knows only itself.
    CHECK(pinned(second.tcti())->unseal(*sealed).error().code == Errc::wrong_chip);
}

TEST_CASE("a changed sealed object is refused") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    const auto sealed = chip->seal(secret_of(known));
    REQUIRE(fine(sealed));
    for (std::size_t at = 0; at < sealed->private_area.size(); at += 7) {
        auto bad = *sealed;
        bad.private_area[at] ^= 0x10U;
        const auto answer = chip->unseal(bad);
        INFO("private byte " << at);
        REQUIRE_FALSE(answer);
        CHECK((answer.error().code == Errc::wrong_chip || answer.error().code == Errc::corrupt));
    }
    for (std::size_t at = 0; at < sealed->public_area.size(); ++at) {
        auto bad = *sealed;
        bad.public_area[at] ^= 0x01U;
        INFO("public byte " << at);
        CHECK_FALSE(chip->unseal(bad));
    }
    auto cut = *sealed;
    cut.private_area.pop_back();
    CHECK(chip->unseal(cut).error().code == Errc::corrupt);
    auto longer = *sealed;
    longer.public_area.push_back(0);
    CHECK(chip->unseal(longer).error().code == Errc::corrupt);
    CHECK(chip->unseal({}).error().code == Errc::corrupt);
    CHECK(fine(chip->unseal(*sealed)));
}

TEST_CASE("a sealed object opens by policy only") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto sealed = pinned(swtpm.tcti())->seal(secret_of(known));
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
    const auto sealed = chip->seal(secret_of(known));
    REQUIRE(fine(sealed));

    SECTION("a stranger's key sits at the handle") {
        const std::string context = (directory.path() / "ctx").string();
        tool(swtpm, "tpm2_createprimary -C o -G rsa -c " + context);
        tool(swtpm, "tpm2_evictcontrol -C o -c " + context + " 0x81000001");
        tool(swtpm, "tpm2_flushcontext -t");
        CHECK(fine(chip->unseal(*sealed)));
        CHECK(tool(swtpm, "tpm2_getcap handles-persistent") == "- 0x81000001\n");
        CHECK(tool(swtpm, "tpm2_readpublic -c 0x81000001").find("rsa") != std::string::npos);
    }
    SECTION("it is our key, and then the owner's password does not matter") {
        tool(swtpm,
             "tpm2_evictcontrol -C o -c " + srk_by_tools(swtpm, directory.path()) + " 0x81000001");
        tool(swtpm, "tpm2_flushcontext -t");
        tool(swtpm, "tpm2_changeauth -c owner password");
        CHECK(fine(chip->unseal(*sealed)));
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
    const auto sealed = chip->seal(secret_of(known));
    REQUIRE(fine(sealed));
    swtpm.kill();
    for (int i = 0; i < 2; ++i) {
        const auto gone = chip->unseal(*sealed);
        REQUIRE_FALSE(gone);
        CHECK(gone.error().code == Errc::unavailable);
        CHECK(gone.error().next == NextAction::retry_later);
    }
    CHECK(chip->identify().error().code == Errc::unavailable);
    CHECK(chip->random(8).error().code == Errc::unavailable);
    swtpm.start();
    CHECK(fine(chip->unseal(*sealed)));
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
}

TEST_CASE("the connection cut at the nth command gives an error, never a crash or wrong bytes") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    SocketTap tap(directory.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    const auto sealed = chip->seal(secret_of(known));
    REQUIRE(fine(sealed));
    int completed = 0;
    for (int nth = 1; nth <= 40 && completed < 2; ++nth) {
        int seen = 0;
        tap.meddle([&](Bytes&, Bytes&) { return ++seen != nth; });
        const auto answer = chip->unseal(*sealed);
        if (answer) {
            CHECK(equal_constant_time(answer->view(), as_bytes(known)));
            if (seen < nth)
                ++completed;
        } else {
            INFO(answer.error().context);
            CHECK(answer.error().code == Errc::unavailable);
        }
        tap.meddle(nullptr);
        INFO("cut at command " << nth);
        CHECK(fine(chip->unseal(*sealed)));
    }
    CHECK(completed > 0);
}

TEST_CASE("an interposer cannot read or change what passes") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    SocketTap tap(directory.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    const auto sealed = chip->seal(secret_of(known));
    REQUIRE(fine(sealed));
    REQUIRE(fine(chip->unseal(*sealed)));
    const auto random = chip->random(32);
    REQUIRE(fine(random));
    const Bytes heard = tap.heard();
    REQUIRE(heard.size() > 2000);
    const auto on_the_bus = [&](ByteView what) {
        return std::search(heard.begin(), heard.end(), what.begin(), what.end()) != heard.end();
    };
    CHECK_FALSE(on_the_bus(as_bytes(known)));
    CHECK_FALSE(on_the_bus(as_bytes(known).first(8)));
    CHECK_FALSE(on_the_bus(random->view()));
    CHECK(on_the_bus(sealed->public_area));  // the tap does hear

    for (const std::uint32_t code : {0x15eU /* Unseal */, 0x157U /* Load */, 0x17bU}) {
        int changed = 0;
        for (int back = 1; back < 90; back += 4) {
            tap.meddle([&](Bytes& command, Bytes& answer) {
                if (command_code(command) != code || answer.size() < 14)
                    return true;
                const auto at = answer.size() - static_cast<std::size_t>(back);
                if (at < 14 || at >= answer.size())
                    return true;
                answer[at] ^= 1U;
                ++changed;
                return true;
            });
            const bool ok =
                code == 0x17bU ? chip->random(32).has_value() : chip->unseal(*sealed).has_value();
            if (changed > 0) {
                INFO("command " << code << ", byte " << back << " from the end");
                CHECK_FALSE(ok);
            }
            changed = 0;
        }
    }
    tap.meddle(nullptr);
    CHECK(fine(chip->unseal(*sealed)));
}

TEST_CASE("a chip that is busy is asked again; one that stays so is given up") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    SocketTap tap(directory.path(), swtpm.socket());
    const auto chip = pinned(tap.tcti());
    const Bytes retry{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x22};
    // ReadPublic changes nothing in the chip, so that answering for it is faithful.
    int left = 12;
    tap.meddle([&](Bytes& command, Bytes& answer) {
        if (command_code(command) == 0x173U && left-- > 0)
            answer = retry;
        return true;
    });
    CHECK(fine(chip->random(8)));
    left = 1'000'000;
    const auto given_up = chip->random(8);
    REQUIRE_FALSE(given_up);
    CHECK(given_up.error().code == Errc::chip);
    CHECK(given_up.error().next == NextAction::retry_later);

    const auto answered_with = [&](std::uint32_t code) {
        tap.meddle([code](Bytes& command, Bytes& answer) {
            if (command_code(command) == 0x173U) {
                answer = ByteWriter().u16(0x8001).u32(10).u32(code).take();
            }
            return true;
        });
        return chip->random(8).error();
    };
    CHECK(answered_with(0x921).context.find("lockout") != std::string::npos);
    CHECK(answered_with(0x920).next == NextAction::retry_later);
    CHECK(answered_with(0x101).next == NextAction::ask_operator);
    CHECK(answered_with(0x143).code == Errc::unsupported);
    CHECK(answered_with(0x1ff).code == Errc::chip);
    tap.meddle(nullptr);
    CHECK(fine(chip->random(8)));
}

TEST_CASE("nothing of ours stays in the chip, and leftovers are cleared") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    SocketTap tap(directory.path(), swtpm.socket());
    const auto left = [&] {
        return tool(swtpm, "tpm2_getcap handles-transient") +
               tool(swtpm, "tpm2_getcap handles-loaded-session");
    };
    const auto chip = pinned(tap.tcti());
    const auto sealed = chip->seal(secret_of(known));
    REQUIRE(fine(sealed));
    REQUIRE(fine(chip->unseal(*sealed)));
    auto bad = *sealed;
    bad.private_area.back() ^= 1U;
    REQUIRE_FALSE(chip->unseal(bad));
    CHECK(left().empty());

    // Cut between Unseal and the flushes: key, object and sessions stay behind.
    tap.meddle([](Bytes& command, Bytes&) { return command_code(command) != 0x15eU; });
    REQUIRE_FALSE(chip->unseal(*sealed));
    CHECK_FALSE(left().empty());
    tap.meddle(nullptr);
    for (int i = 0; i < 5; ++i)
        REQUIRE(fine(chip->unseal(*sealed)));
    CHECK(left().empty());
}

TEST_CASE("no copy of a secret stays in our memory") {
    const TemporaryDirectory directory;
    const Swtpm swtpm(directory.path());
    const auto chip = pinned(swtpm.tcti());
    // The needle is made of two halves, so that it is whole in `secret` only.
    SecretBytes secret(64);
    for (std::size_t i = 0; i < 64; ++i) {
        secret.span()[i] = static_cast<std::uint8_t>(17 + i * 7 + (i % 3) * 29);
    }
    const auto sealed = chip->seal(secret);
    REQUIRE(fine(sealed));
    CHECK(in_memory(secret.view().first(32)) == 1);
    auto again = chip->unseal(*sealed);
    REQUIRE(fine(again));
    CHECK(in_memory(secret.view().first(32)) == 2);
    again = SecretBytes();
    CHECK(in_memory(secret.view().first(32)) == 1);
}
