// Where swtpm keeps its states: what is taken, what is refused, and that nothing is changed.
#include <fcntl.h>
#include <sys/stat.h>

#include "swtpm_fixture.h"

using namespace vtpm;
using namespace vtpm::control;
using Catch::Matchers::Contains;

namespace {

Result<SwtpmState> read(const std::filesystem::path& path,
                        std::optional<tpm::Version> version = std::nullopt) {
    return read_swtpm_state(path.string(), version, nullptr);
}

struct Directory : TemporaryDirectory {
    std::filesystem::path operator/(const std::string& name) const { return path() / name; }
    // A TPM 2.0's state in clear.
    void fill() const { spit(*this / "tpm2-00.permall", sample("in clear").blob); }
};

// Whether another process could lock this file as swtpm does.
bool lockable(const std::filesystem::path& file) {
    const pid_t child = ::fork();
    if (child == 0) {
        const int fd = ::open(file.c_str(), O_WRONLY);
        struct flock wanted {};
        wanted.l_type = F_WRLCK;
        ::_exit(fd >= 0 && ::fcntl(fd, F_SETLK, &wanted) == 0 ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return status == 0;
}

Bytes le(std::uint64_t value, std::size_t size) {
    Bytes bytes;
    for (std::size_t i = 0; i < size; ++i)
        bytes.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
    return bytes;
}

}  // namespace

TEST_CASE("a state of which a swtpm is in charge is left alone") {
    Source source(tpm::Version::v2_0, keeping("in clear"));
    const auto busy = source.read();
    CHECK(error_of(busy) == Errc::in_use);
    CHECK_THAT(reason_of(busy), Contains("in use by process"));
    source.stop();
    {
        const auto state = source.read();
        REQUIRE(state);
        CHECK_FALSE(lockable(source.path() / ".lock"));
    }
    CHECK(lockable(source.path() / ".lock"));
}

TEST_CASE("reading changes nothing") {
    Directory directory;
    directory.fill();
    spit(directory / ".lock", {});
    REQUIRE(::chmod(directory.path().c_str(), 0500) == 0);
    const auto before = std::filesystem::last_write_time(directory.path());
    const auto blob_before = std::filesystem::last_write_time(directory / "tpm2-00.permall");
    REQUIRE(read(directory.path()));
    CHECK(std::filesystem::last_write_time(directory.path()) == before);
    CHECK(std::filesystem::last_write_time(directory / "tpm2-00.permall") == blob_before);
    CHECK(slurp(directory / "tpm2-00.permall") == sample("in clear").blob);
    CHECK(std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 2);
    REQUIRE(::chmod(directory.path().c_str(), 0700) == 0);
}

TEST_CASE("which of the TPMs") {
    Directory directory;
    CHECK_THAT(reason_of(read(directory.path())), Contains("--tpmstate"));
    CHECK(error_of(read(directory.path())) == Errc::not_found);
    CHECK(error_of(read(directory / "absent")) == Errc::not_found);
    directory.fill();
    CHECK(read(directory.path())->version == tpm::Version::v2_0);
    CHECK(error_of(read(directory.path(), tpm::Version::v1_2)) == Errc::not_found);
    spit(directory / "tpm-00.permall", sample("in clear").blob);
    CHECK(error_of(read(directory.path())) == Errc::invalid_argument);
    CHECK_THAT(reason_of(read(directory.path())), Contains("--tpm"));
    CHECK(read(directory.path(), tpm::Version::v2_0));
    // Its name says 1.2.
    CHECK_THAT(reason_of(read(directory.path(), tpm::Version::v1_2)), Contains("holds a TPM 2.0"));
}

TEST_CASE("a suspended TPM's other states are left out, and said to be") {
    Directory directory;
    directory.fill();
    spit(directory / "tpm2-00.volatilestate", as_bytes("v"));
    spit(directory / "tpm-00.savestate", as_bytes("of another"));
    const auto state = read(directory.path());
    REQUIRE(state);
    CHECK(state->left_out == std::vector<std::string>{"tpm2-00.volatilestate"});
}

TEST_CASE("files that are none, too large, empty or junk") {
    Directory directory;
    const auto file = directory / "tpm2-00.permall";
    Errc expected = Errc::invalid_argument;
    SECTION("a link") {
        spit(directory / "elsewhere", sample("in clear").blob);
        std::filesystem::create_symlink("elsewhere", file);
    }
    SECTION("a directory") {
        std::filesystem::create_directory(file);
    }
    SECTION("a pipe") {
        REQUIRE(::mkfifo(file.c_str(), 0600) == 0);
    }
    SECTION("a lock that is a link") {
        directory.fill();
        std::filesystem::create_symlink("/dev/null", directory / ".lock");
    }
    SECTION("too large") {
        spit(file, Bytes(max_swtpm_blob + 1));
        expected = Errc::too_large;
    }
    SECTION("empty") {
        spit(file, {});
        expected = Errc::corrupt;
    }
    SECTION("no state of libtpms'") {
        Bytes blob = sample("in clear").blob;
        blob[18] ^= 1U;
        spit(file, blob);
        expected = Errc::corrupt;
    }
    const auto refused = read(directory.path());
    INFO(reason_of(refused));
    CHECK(error_of(refused) == expected);
}

TEST_CASE("swtpm's other way to keep a state, one file") {
    Directory directory;
    const auto file = directory / "linear";
    const auto spawn = [&] {
        const std::string command = "swtpm socket --tpm2 --tpmstate backend-uri=file://" +
                                    file.string() +
                                    " --server type=unixio,path=" + (directory / "s").string() +
                                    " --ctrl type=unixio,path=" + (directory / "c").string() +
                                    " --flags not-need-init,startup-clear --daemon --pid file=" +
                                    (directory / "pid").string();
        REQUIRE(std::system(command.c_str()) == 0);
        pid_t pid = 0;
        std::ifstream(directory / "pid") >> pid;
        REQUIRE(pid > 1);
        const std::string save = "swtpm_ioctl --unix " + (directory / "c").string() +
                                 " --save permanent " + (directory / "out").string();
        CHECK(std::system(save.c_str()) == 0);
        ::kill(pid, SIGKILL);
    };
    spawn();
    const Bytes good = slurp(file);
    const auto state = read(file);
    INFO(reason_of(state));
    REQUIRE(state);
    CHECK(state->version == tpm::Version::v2_0);
    CHECK(state->left_out.empty());
    const Bytes envelope = slurp(directory / "out");
    REQUIRE(envelope.size() == 22 + state->permanent.size());
    CHECK(std::equal(envelope.begin() + 22, envelope.end(), state->permanent.view().begin()));
    CHECK_FALSE(lockable(file));
    CHECK(error_of(read(file, tpm::Version::v1_2)) == Errc::invalid_argument);

    const auto changed = [&](std::size_t at, const Bytes& with) {
        Bytes bytes = good;
        std::copy(with.begin(), with.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
        spit(directory / "changed", bytes);
        return read(directory / "changed");
    };
    CHECK(error_of(changed(0, {0})) == Errc::malformed);
    CHECK(error_of(changed(8, {2})) == Errc::unsupported);
    CHECK(error_of(changed(12, le(0, 4))) == Errc::not_found);
    CHECK(error_of(changed(16, le(0xFFFFFFFF, 4))) == Errc::too_large);
    for (const std::uint64_t offset : {1UL, 191UL, 193UL, good.size(), 0xFFFFFFFFUL}) {
        CHECK(error_of(changed(12, le(offset, 4))).has_value());
    }
    CHECK(error_of(changed(20, le(1, 4))) == Errc::corrupt);
    CHECK(changed(24, le(192, 4))->left_out == std::vector<std::string>{"volatilestate"});
    for (std::size_t size = 0; size < 192 + state->permanent.size(); size += 7) {
        spit(directory / "cut", ByteView(good).first(size));
        if (read(directory / "cut")) {
            FAIL_CHECK("cut at " << size);
        }
    }
    std::filesystem::create_symlink("linear", directory / "link");
    CHECK(error_of(read(directory / "link")) == Errc::invalid_argument);
}
