// What the page and the event cost by themselves: answers every request on the ring with itself.
//
//   bench-echo DOMAIN RING-REF EVENT-PORT
#include <poll.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "vtpm/xen/back_ring.h"
#include "vtpm/xen/grant_map.h"
#include "vtpm/xen/libxen_event_channel.h"

namespace {

class Echo : public vtpm::xen::RequestHandler {
  public:
    std::size_t handle(vtpm::ByteView request, std::uint8_t,
                       vtpm::MutableByteView response) override {
        std::copy(request.begin(), request.end(), response.begin());
        return request.size();
    }
    std::size_t refuse(vtpm::xen::RequestFault, vtpm::MutableByteView) override { return 0; }
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4)
        return 2;
    const auto number = [&](int i) { return static_cast<std::uint32_t>(std::stoul(argv[i])); };
    const auto page = vtpm::xen::map_grant(number(1), number(2));
    const auto events = vtpm::xen::LibxenEventChannel::bind(number(1), number(3));
    if (!page || !events)
        return 1;
    vtpm::xen::BackRing ring(page->page(), **events);
    Echo echo;
    pollfd wanted{(*events)->fd(), POLLIN, 0};
    while (::poll(&wanted, 1, -1) >= 0) {
        if (!(*events)->consume())
            return 0;  // the front end is gone
        for (;;) {
            const auto served = ring.serve(echo);
            if (!served || *served == vtpm::xen::Served::nothing)
                break;
        }
    }
    return 1;
}
