#include "handed_over_state.h"

#include <catch2/catch.hpp>

#include "suspended_state.h"

using namespace vtpm;
using namespace vtpm::engine_program;

TEST_CASE("a memory goes with the lasting state that it belongs to") {
    const auto memory = SecretBytes::copy_of(Bytes(100, 7));
    const auto carried = handed_over_state(5, memory);
    const auto taken = take_handed_over_state(carried, 5);
    REQUIRE(taken);
    const auto view = taken->content.view();
    CHECK(Bytes(view.begin(), view.end()) == Bytes(100, 7));
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

TEST_CASE("a memory tells the time of day that its TPM has seen") {
    const auto carried = handed_over_state(5, SecretBytes::copy_of(Bytes(1, 7)));
    CHECK(take_handed_over_state(carried, 5)->time_of_day > 1'700'000'000'000'000);
    // XVH1, as version 0.1.0 first had it, tells none.
    const auto older =
        SecretBytes::copy_of(ByteWriter().u32(0x58564831).u64(5).bytes(Bytes(3, 9)).take());
    const auto taken = take_handed_over_state(older, 5);
    REQUIRE(taken);
    CHECK(taken->time_of_day == 0);
    CHECK(taken->content.size() == 3);
}

TEST_CASE("a TPM that was put by tells the time of day that it has seen") {
    std::vector<engine::StateBlob> blobs;
    blobs.push_back(suspended_state(3, SecretBytes::copy_of(Bytes(8, 7))));
    const auto taken = take_suspended_state(blobs, 3);
    REQUIRE(taken);
    CHECK(taken->time_of_day > 1'700'000'000'000'000);
    CHECK(taken->content.size() == 8);
}
