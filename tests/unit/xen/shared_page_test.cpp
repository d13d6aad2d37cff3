#include <catch2/catch.hpp>
#include <numeric>

#include "fakes/xen/ordinary_page.h"
#include "vtpm/xen/mapped_page.h"

// Xen's own structure, to hold ours against.
#include <xen/io/tpmif.h>
#include <xen/xen.h>

using namespace vtpm;
using namespace vtpm::xen;

static_assert(sizeof(tpmif_shared_page) == sizeof(tpmif::Header));
static_assert(offsetof(tpmif_shared_page, length) == offsetof(tpmif::Header, length));
static_assert(offsetof(tpmif_shared_page, state) == offsetof(tpmif::Header, state));
static_assert(offsetof(tpmif_shared_page, locality) == offsetof(tpmif::Header, locality));
static_assert(offsetof(tpmif_shared_page, nr_extra_pages) ==
              offsetof(tpmif::Header, nr_extra_pages));
static_assert(int{tpmif::state::idle} == TPMIF_STATE_IDLE);
static_assert(int{tpmif::state::submit} == TPMIF_STATE_SUBMIT);
static_assert(int{tpmif::state::finish} == TPMIF_STATE_FINISH);
static_assert(int{tpmif::state::cancel} == TPMIF_STATE_CANCEL);

namespace {

Bytes counted(std::size_t size) {
    Bytes bytes(size);
    std::iota(bytes.begin(), bytes.end(), std::uint8_t{1});
    return bytes;
}

}  // namespace

TEST_CASE("the header comes back field by field") {
    OrdinaryPage memory;
    memory.set_header({0x12345678, 3, 4, 0, 5});
    const auto header = memory.page().header();
    CHECK(header.length == 0x12345678);
    CHECK(header.state == 3);
    CHECK(header.locality == 4);
    CHECK(header.nr_extra_pages == 5);
    CHECK(memory.page().state() == 3);
}

TEST_CASE("setters touch their own field only") {
    OrdinaryPage memory;
    memory.set_header({0xffffffff, 0xff, 0xff, 0xff, 0xff});
    auto page = memory.page();
    page.set_length(7);
    page.set_locality(2);
    page.publish(tpmif::state::finish);
    const auto header = memory.header();
    CHECK(header.length == 7);
    CHECK(header.state == tpmif::state::finish);
    CHECK(header.locality == 2);
    CHECK(header.pad == 0xff);
    CHECK(header.nr_extra_pages == 0xff);
}

TEST_CASE("a state is replaced only if it still is what was seen") {
    OrdinaryPage memory;
    auto page = memory.page();
    page.publish(tpmif::state::submit);
    CHECK_FALSE(page.replace_state(tpmif::state::cancel, tpmif::state::idle));
    CHECK(page.state() == tpmif::state::submit);
    CHECK(page.replace_state(tpmif::state::submit, tpmif::state::idle));
    CHECK(page.state() == tpmif::state::idle);
}

TEST_CASE("bytes go out and come in at any offset and size") {
    const auto offset = GENERATE(std::size_t{0}, 1, 3, 4, 7, 8, 1020);
    const auto size = GENERATE(std::size_t{0}, 1, 7, 8, 9, 15, 16, 17, 1000);
    CAPTURE(offset, size);
    OrdinaryPage memory;
    const auto sent = counted(size);
    CHECK(memory.page().copy_out(offset, sent) == size);
    const auto packet = memory.packet();
    CHECK(std::equal(sent.begin(), sent.end(), packet.begin() + static_cast<long>(offset)));
    CHECK(std::accumulate(packet.begin(), packet.end(), 0U) ==
          std::accumulate(sent.begin(), sent.end(), 0U));  // and nowhere else

    Bytes received(size);
    CHECK(memory.page().copy_in(offset, received) == size);
    CHECK(received == sent);
}

TEST_CASE("copies end with the page") {
    OrdinaryPage memory;
    auto page = memory.page();
    const auto sent = counted(5000);
    CHECK(page.copy_out(0, sent) == tpmif::max_packet);
    CHECK(page.copy_out(tpmif::max_packet - 3, sent) == 3);
    CHECK(page.copy_out(tpmif::max_packet, sent) == 0);
    CHECK(page.copy_out(SIZE_MAX, sent) == 0);
    Bytes received(5000, 0xee);
    CHECK(page.copy_in(0, received) == tpmif::max_packet);
    CHECK(received[tpmif::max_packet] == 0xee);
    CHECK(page.copy_in(SIZE_MAX - 4, received) == 0);
    CHECK(memory.header().length == 0);  // the header was never touched
}

TEST_CASE("wiping leaves the header") {
    OrdinaryPage memory;
    memory.set_header({1, 2, 3, 4, 5});
    memory.page().copy_out(0, counted(tpmif::max_packet));
    memory.page().wipe_packet();
    const auto packet = memory.packet();
    CHECK(std::all_of(packet.begin(), packet.end(), [](auto byte) { return byte == 0; }));
    CHECK(memory.header().length == 1);
    CHECK(memory.header().nr_extra_pages == 5);
}

TEST_CASE("a mapped page is unmapped exactly once, by its last owner") {
    OrdinaryPage first_memory;
    OrdinaryPage second_memory;
    std::vector<void*> unmapped;
    const auto unmap = [&](void* memory) { unmapped.push_back(memory); };
    {
        MappedPage first(first_memory.data(), unmap);
        MappedPage moved(std::move(first));
        CHECK(unmapped.empty());
        MappedPage second(second_memory.data(), unmap);
        moved = std::move(second);
        CHECK(unmapped == std::vector<void*>{first_memory.data()});
    }
    CHECK(unmapped == std::vector<void*>{first_memory.data(), second_memory.data()});
}
