#include "handed_over_state.h"

#include <catch2/catch.hpp>

using namespace vtpm;
using namespace vtpm::engine_program;

TEST_CASE("a memory goes with the lasting state that it belongs to") {
    const auto memory = SecretBytes::copy_of(Bytes(100, 7));
    const auto carried = handed_over_state(5, memory);
    const auto taken = take_handed_over_state(carried, 5);
    REQUIRE(taken);
    CHECK(Bytes(taken->view().begin(), taken->view().end()) == Bytes(100, 7));
    for (const std::uint64_t other : {0U, 4U, 6U})
        CHECK(take_handed_over_state(carried, other).error().code == Errc::out_of_order);
}

TEST_CASE("what no engine has handed over is none") {
    const auto whole = handed_over_state(5, SecretBytes::copy_of(Bytes(1, 7)));
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const auto part = SecretBytes::copy_of(whole.view().first(size));
        CHECK_FALSE(take_handed_over_state(part, 5));
    }
    Bytes other(whole.view().begin(), whole.view().end());
    other.front() ^= 1;
    CHECK(take_handed_over_state(SecretBytes::copy_of(other), 5).error().code == Errc::corrupt);
}
