#include "state_ticket.h"

#include <catch2/catch.hpp>

using namespace vtpm;
using namespace vtpm::swtpm;

TEST_CASE("a ticket says what it said") {
    const StateTicket ticket{BlobType::volatile_state, Uuid::random(), 0x8123456789abcdefULL};
    const auto read = StateTicket::parse(ticket.to_bytes());
    REQUIRE(read);
    CHECK(read->type == ticket.type);
    CHECK(read->instance == ticket.instance);
    CHECK(read->label == ticket.label);
}

TEST_CASE("what is no ticket is refused") {
    const Bytes good = StateTicket{BlobType::permanent, Uuid::random(), 1}.to_bytes();
    for (std::size_t size = 0; size < good.size(); ++size)
        CHECK_FALSE(StateTicket::parse(ByteView(good).first(size)));
    Bytes longer = good;
    longer.push_back(0);
    CHECK_FALSE(StateTicket::parse(longer));
    for (const std::uint8_t type : Bytes{0, 4, 255}) {
        Bytes other = good;
        other[11] = type;
        CHECK_FALSE(StateTicket::parse(other));
    }
    // swtpm's own blob: version 2, minimum 1, header size 10
    CHECK(StateTicket::parse(from_hex("0201000a0000000004d2").value()).error().code ==
          Errc::permission);
}
