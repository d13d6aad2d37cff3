#include "vtpm/base/shared_count.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

using namespace vtpm;

namespace {

Fd copy_of(int fd) {
    return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

// As another program could send it.
Fd file_of(::off_t size, int seals) {
    Fd file(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::ftruncate(file.get(), size) == 0);
    REQUIRE(::fcntl(file.get(), F_ADD_SEALS, seals) == 0);
    return file;
}

}  // namespace

TEST_CASE("who watches sees what another process adds") {
    auto count = SharedCount::create().value();
    const auto watched = SharedCount::watch(copy_of(count.fd())).value();
    CHECK(watched.value() == 0);
    count.add();
    CHECK(watched.value() == 1);
    const auto child = ::fork();
    if (child == 0) {
        count.add();
        ::_exit(0);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(watched.value() == 2);
    CHECK(count.value() == 2);
}

TEST_CASE("nobody can take the page away from who looks") {
    const auto count = SharedCount::create().value();
    CHECK(::ftruncate(count.fd(), 0) != 0);
    CHECK(::fcntl(count.fd(), F_ADD_SEALS, F_SEAL_WRITE) != 0);
}

TEST_CASE("what is no shared count is refused") {
    constexpr int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    CHECK(SharedCount::watch(file_of(8, all)));
    CHECK(SharedCount::watch(file_of(0, all)).error().code == Errc::malformed);
    CHECK(SharedCount::watch(file_of(4096, all)).error().code == Errc::malformed);
    CHECK(SharedCount::watch(file_of(8, F_SEAL_GROW)).error().code == Errc::malformed);
    auto pair = stream_socket_pair().value();
    CHECK(SharedCount::watch(std::move(pair.first)).error().code == Errc::malformed);
    CHECK_FALSE(SharedCount::watch(Fd()));
}
