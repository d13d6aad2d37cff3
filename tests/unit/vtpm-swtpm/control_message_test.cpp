#include "control_message.h"

#include <catch2/catch.hpp>

using namespace vtpm;
using namespace vtpm::swtpm;

namespace {

Framing framing_of(const Bytes& bytes) {
    Request request{};
    return frame(bytes, request);
}

Bytes request(Command command, const Bytes& body = {}) {
    return ByteWriter().u32(static_cast<std::uint32_t>(command)).bytes(body).take();
}

}  // namespace

TEST_CASE("a request is complete with its last byte, and not before") {
    const std::vector<Bytes> requests = {
        request(Command::stop),
        request(Command::init, Bytes(4)),
        request(Command::hash_data, ByteWriter().u32(3).bytes(Bytes(3)).take()),
        request(Command::get_stateblob, Bytes(12)),
        request(Command::set_stateblob, ByteWriter().u32(0).u32(1).u32(5).bytes(Bytes(5)).take()),
        request(Command::get_info, Bytes(16)),
    };
    for (const auto& whole : requests) {
        for (std::size_t size = 0; size < whole.size(); ++size)
            CHECK(framing_of({whole.begin(), whole.begin() + static_cast<long>(size)}) ==
                  Framing::incomplete);
        CHECK(framing_of(whole) == Framing::complete);
        Bytes more = whole;
        more.push_back(0);
        CHECK(framing_of(more) == Framing::malformed);
    }
}

TEST_CASE("a locality may come alone or with three bytes for nothing") {
    CHECK(framing_of(request(Command::set_locality)) == Framing::incomplete);
    for (std::size_t size = 1; size <= 4; ++size)
        CHECK(framing_of(request(Command::set_locality, Bytes(size))) == Framing::complete);
    CHECK(framing_of(request(Command::set_locality, Bytes(5))) == Framing::malformed);
}

TEST_CASE("what announces too much is not waited for") {
    CHECK(framing_of(request(Command::hash_data, ByteWriter().u32(4096).take())) ==
          Framing::incomplete);
    CHECK(framing_of(request(Command::hash_data, ByteWriter().u32(4097).take())) ==
          Framing::malformed);
    for (const std::uint32_t size : {512U * 1024 + 1, 0xffffffffU, 0x80000000U})
        CHECK(framing_of(
                  request(Command::set_stateblob, ByteWriter().u32(0).u32(1).u32(size).take())) ==
              Framing::malformed);
}
