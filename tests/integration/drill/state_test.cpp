// A state at which libtpms itself crashes (docs/libtpms-findings.md), as somebody could bring it
// from a swtpm: the real engine dies in its jail, and that is all that happens.
#include <openssl/sha.h>

#include <cstdlib>

#include "fakes/chip/swtpm.h"
#include "stage.h"

using namespace vtpm;
using namespace vtpm::drill;

namespace {

constexpr std::size_t header_of_swtpm = 16;  // before the state in a file that is not encrypted
constexpr std::uint32_t tpm12_failed_self_test = 28;
constexpr std::size_t fatal_byte = 126;  // of the state of a new TPM 1.2

// The state of a new TPM 1.2 of swtpm's with one byte changed, and the digest at its end made
// right.
std::filesystem::path damaged(const std::filesystem::path& directory) {
    const auto path = directory / "tpm-00.permall";
    {
        Swtpm swtpm(directory, "not-need-init,startup-clear", {});
        for (int i = 0; i < 500 && !std::filesystem::exists(path); ++i)
            std::this_thread::sleep_for(10ms);
    }
    auto file = read_file(path.c_str(), 1UL << 20).value();
    const MutableByteView state = MutableByteView(file).subspan(header_of_swtpm);
    REQUIRE(state.size() > fatal_byte + SHA_DIGEST_LENGTH);
    state[fatal_byte] ^= 1;
    const auto digested = state.size() - SHA_DIGEST_LENGTH;
    ::SHA1(state.data(), digested, state.data() + digested);
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(file.data()),
               static_cast<std::streamsize>(file.size()));
    return directory;
}

}  // namespace

TEST_CASE("a state at which libtpms crashes costs one guest its TPM, and the host four engines") {
    Stage stage;
    const Uuid uuid = Uuid::random();
    const std::string command = std::string(VTPM_CTL) + " --socket " +
                                (stage.host.directory() / "manager").string() +
                                " import-swtpm --name damaged --uuid " + uuid.to_string() + " " +
                                damaged(stage.host.directory() / "swtpm").string() + " > /dev/null";
    REQUIRE(std::system(command.c_str()) == 0);
    SimGuest guest(stage.host, stage.next_domain++, uuid);
    boot(guest);
    // 21 s in all; the guest's first command waits for so long, and is answered then.
    const auto begin = std::chrono::steady_clock::now();
    CHECK(run(guest, tpm_commands::v12::get_random(16)) == tpm12_failed_self_test);
    CHECK(std::chrono::steady_clock::now() - begin > 15s);
    CHECK(stage.journal.lines("killed by signal 11").size() == 4);
    CHECK(stage.journal
              .lines("4 have died of it one after another; domain " +
                     std::to_string(guest.domain()) + " gets a TPM in failure mode")
              .size() == 1);
    // It stays so, whatever the guest does, until its power is cut.
    REQUIRE(guest.connect());
    CHECK(run(guest, tpm_commands::v12::get_random(16)) == tpm12_failed_self_test);
    CHECK(stage.journal.lines("killed by signal 11").size() == 4);
    CHECK(run(stage.victim, v20::get_random(16)) == success);
    CHECK(stage.host.show(uuid).sequence() == 1);
    CHECK(guest.destroy());
    CHECK(stage.victim.destroy());
}
