#include "cancel_bell.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <catch2/catch.hpp>

using namespace vtpm;
using swtpm_engine::CancelBell;

namespace {

// vtpm-swtpm's end and the engine's.
struct Bells {
    SharedCount wishes = SharedCount::create().value();
    Fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    CancelBell bell{SharedCount::watch(Fd(::fcntl(wishes.fd(), F_DUPFD_CLOEXEC, 0))).value(),
                    event.duplicate().value()};

    void wish() { wishes.add(); }
    void ring() const { REQUIRE(::eventfd_write(event.get(), 1) == 0); }
    bool rings() const {
        pollfd there{bell.fd(), POLLIN, 0};
        return ::poll(&there, 1, 0) == 1;
    }
};

}  // namespace

TEST_CASE("a wish is one until it is forgotten") {
    Bells bells;
    CHECK_FALSE(bells.bell.cancel_requested());
    bells.wish();
    bells.ring();
    CHECK(bells.bell.cancel_requested());
    REQUIRE(bells.rings());
    REQUIRE(bells.bell.consume());
    CHECK_FALSE(bells.rings());
    CHECK(bells.bell.cancel_requested());
    bells.bell.forget();
    CHECK_FALSE(bells.bell.cancel_requested());
}

TEST_CASE("a ring that comes after its wish was forgotten cancels nothing") {
    Bells bells;
    bells.wish();
    bells.bell.forget();
    bells.ring();
    CHECK(bells.rings());
    CHECK_FALSE(bells.bell.cancel_requested());
    REQUIRE(bells.bell.consume());
    CHECK_FALSE(bells.bell.cancel_requested());
    bells.wish();
    CHECK(bells.bell.cancel_requested());
}

TEST_CASE("nothing to consume is no error") {
    Bells bells;
    CHECK(bells.bell.consume());
}
