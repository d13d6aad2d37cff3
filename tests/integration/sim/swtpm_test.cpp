// A guest moves in from swtpm: it finds what it kept in its TPM, and the TPM is the same one.
#include <cstdlib>

#include "bench.h"

using namespace vtpm;
using namespace vtpm::fakes;

namespace v12 = tpm_commands::v12;

namespace {

Uuid import(const SimHost& host, const std::string& source) {
    const Uuid uuid = Uuid::random();
    const std::string command =
        std::string(VTPM_CTL) + " --socket " + (host.directory() / "manager").string() +
        " import-swtpm --name moved --uuid " + uuid.to_string() + " " + source + " > /dev/null";
    REQUIRE(std::system(command.c_str()) == 0);
    return uuid;
}

// A TPM of swtpm's that is used before it moves.
class Home {
  public:
    Home(const SimHost& host, std::vector<std::string> options)
        : host_(host), passphrase_(host.directory() / "passphrase") {
        std::ofstream(passphrase_) << "open sesame";
        options.insert(options.end(), {"--key", "pwdfile=" + passphrase_.string()});
        swtpm_.emplace(path(), "not-need-init,startup-clear", options);
    }

    Bytes transmit(const Bytes& command) {
        const Fd socket = connect_to(swtpm_->socket());
        REQUIRE(write_all(socket.get(), command));
        Bytes answer(tpm::header_size);
        REQUIRE(read_exactly(socket.get(), answer));
        answer.resize(tpm::parse_header(answer)->size);
        REQUIRE(read_exactly(socket.get(), MutableByteView(answer).subspan(tpm::header_size)));
        REQUIRE(code_of(answer) == success);
        return answer;
    }

    Uuid move() {
        swtpm_->kill();
        const Uuid uuid = Uuid::random();
        const std::string command = std::string(VTPM_CTL) + " --socket " +
                                    (host_.directory() / "manager").string() + " import-swtpm " +
                                    path().string() + " --name moved --uuid " + uuid.to_string() +
                                    " --pwdfile " + passphrase_.string() + " > /dev/null";
        REQUIRE(std::system(command.c_str()) == 0);
        return uuid;
    }

  private:
    std::filesystem::path path() const { return host_.directory() / "swtpm"; }

    const SimHost& host_;
    std::filesystem::path passphrase_;
    std::optional<Swtpm> swtpm_;
};

// TPM2B_PUBLIC of a CreatePrimary's answer, after the header, a handle and the parameters' size
Bytes public_area(const Bytes& answer) {
    REQUIRE(answer.size() > 20);
    const std::size_t size = 2U + answer[18] * 256U + answer[19];
    REQUIRE(answer.size() > 18 + size);
    return {answer.begin() + 18, answer.begin() + 18 + static_cast<std::ptrdiff_t>(size)};
}

}  // namespace

TEST_CASE("a TPM 2.0 moves in from swtpm") {
    const NoProcessLeft first;
    SimHost host;
    Home home(host, {"--tpm2"});
    const Bytes value(32, 0x5A);
    const Bytes endorsement = v20::create_primary_rsa(7, v20::endorsement);
    home.transmit(v20::nv_define(32));
    home.transmit(v20::nv_write(value));
    const Bytes ek = public_area(home.transmit(endorsement));

    const Uuid uuid = home.move();
    SimGuest guest(host, 5, uuid);
    boot(guest);
    CHECK(read_nv(guest, 32) == value);
    CHECK(public_area(guest.transmit(endorsement)) == ek);
    // It lives on from there.
    REQUIRE(run(guest, v20::nv_write(Bytes(32, 0x11))) == success);
    CHECK(guest.power_off());
    SimGuest again(host, 6, uuid);
    boot(again);
    CHECK(read_nv(again, 32) == Bytes(32, 0x11));
    CHECK(again.destroy());
}

TEST_CASE("a TPM 1.2 moves in from swtpm") {
    const NoProcessLeft first;
    SimHost host;
    Home home(host, {});
    home.transmit(v12::create_endorsement_key());
    const Bytes ek = home.transmit(v12::read_pubek());

    SimGuest guest(host, 5, home.move());
    boot(guest);
    CHECK(guest.transmit(v12::read_pubek()) == ek);
    CHECK(guest.power_off());
}

// Nothing vouches for a state that is not encrypted until libtpms reads it.
TEST_CASE("a state that libtpms does not take makes no new TPM") {
    const NoProcessLeft first;
    SimHost host;
    const auto home = host.directory() / "junk";
    std::filesystem::create_directory(home);
    const Bytes state = ByteWriter().u16(3).u32(0xAB364723).u16(1).bytes(Bytes(600, 0x5A)).take();
    const Bytes blob = ByteWriter()
                           .u16(0x0201)
                           .u16(10)
                           .u16(0)
                           .u32(static_cast<std::uint32_t>(16 + state.size()))
                           .u16(1)
                           .sized(state)
                           .take();
    std::ofstream(home / "tpm2-00.permall", std::ios::binary)
        .write(reinterpret_cast<const char*>(blob.data()),
               static_cast<std::streamsize>(blob.size()));
    const Uuid uuid = import(host, home.string());
    SimGuest guest(host, 5, uuid);
    boot(guest);
    CHECK(run(guest, v20::get_random(16)) == failure_mode);
    CHECK(guest.destroy());
    CHECK(host.show(uuid).sequence() == 1);
}
