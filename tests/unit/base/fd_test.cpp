#include "vtpm/base/fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>

using namespace vtpm;

namespace {
bool is_open(int fd) {
    return ::fcntl(fd, F_GETFD) >= 0;
}
}  // namespace

TEST_CASE("assignment closes what was held before") {
    auto pair = stream_socket_pair().value();
    const int old = pair.first.get();
    pair.first = std::move(pair.second);
    CHECK_FALSE(is_open(old));
    CHECK_FALSE(pair.second.valid());
    const int now = pair.first.get();
    pair.first.reset();
    CHECK_FALSE(is_open(now));
}

TEST_CASE("reading tells the end of the stream from data") {
    auto pair = stream_socket_pair().value();
    REQUIRE(write_all(pair.first.get(), Bytes{1, 2}));
    pair.first.reset();
    Bytes three(3);
    const auto got = read_exactly(pair.second.get(), three);
    REQUIRE_FALSE(got);
    CHECK(got.error().code == Errc::unavailable);
}

TEST_CASE("a file beyond its bound is refused, a missing one is not found") {
    const auto big = read_file("/proc/self/maps", 16);
    REQUIRE_FALSE(big);
    CHECK(big.error().code == Errc::too_large);
    const auto none = read_file("/nonexistent", 16);
    REQUIRE_FALSE(none);
    CHECK(none.error().code == Errc::not_found);
}
