#include "vtpm/xen/back_ring.h"

#include <string.h>

#include <algorithm>

namespace vtpm::xen {

namespace {

// Where the packet begins on a page whose header names extra pages: their grant references, four
// bytes each, lie before it. A front end that set the field looks for its answer there.
std::size_t packet_offset(const tpmif::Header& header) {
    return std::size_t{header.nr_extra_pages} * sizeof(std::uint32_t);
}
static_assert(255 * sizeof(std::uint32_t) < tpmif::max_packet);

}  // namespace

BackRing::~BackRing() {
    ::explicit_bzero(request_.data(), request_.size());
    ::explicit_bzero(response_.data(), response_.size());
}

Result<Served> BackRing::serve(RequestHandler& handler) {
    const auto header = page_.header();
    switch (header.state) {
        case tpmif::state::submit:
            return answer(handler, header);
        case tpmif::state::idle:
        case tpmif::state::finish:
            return Served::nothing;
        default:  // CANCEL with nothing running, or no state at all
            return settle(header.state);
    }
}

Result<Served> BackRing::answer(RequestHandler& handler, const tpmif::Header& header) {
    const auto offset = packet_offset(header);
    const auto response = MutableByteView(response_).first(response_.size() - offset);
    const auto size = std::min(run(handler, header, response), response.size());

    page_.copy_out(offset, response.first(size));
    page_.set_length(static_cast<std::uint32_t>(size));
    page_.publish(tpmif::state::finish);  // over a CANCEL that came meanwhile, too
    ::explicit_bzero(response.data(), size);
    VTPM_CHECK(events_.notify());
    return Served::command;
}

std::size_t BackRing::run(RequestHandler& handler, const tpmif::Header& header,
                          MutableByteView response) {
    if (header.nr_extra_pages != 0)
        return handler.refuse(RequestFault::extra_pages, response);
    if (header.length == 0)
        return handler.refuse(RequestFault::empty, response);
    if (header.length > request_.size())
        return handler.refuse(RequestFault::too_long, response);

    const auto request = MutableByteView(request_).first(header.length);
    page_.copy_in(0, request);
    const auto size = handler.handle(request, header.locality, response);
    ::explicit_bzero(request.data(), request.size());
    return size;
}

Result<Served> BackRing::settle(std::uint8_t seen) {
    // If the guest has written anew since, its event is still to come and brings us back.
    if (page_.replace_state(seen, tpmif::state::idle))
        VTPM_CHECK(events_.notify());
    return Served::nothing;
}

}  // namespace vtpm::xen
