#include "data_channel.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "vtpm/base/secret_bytes.h"
#include "vtpm/tpm/message.h"

namespace vtpm::swtpm_engine {

DataChannel::~DataChannel() {
    wipe(request_);
    wipe(response_);
}

bool DataChannel::on_readable(xen::RequestHandler& handler, std::uint8_t locality) {
    const auto got = read_some();
    if (got != Got::bytes)
        return got == Got::nothing;
    const auto received = ByteView(request_).first(received_);
    const auto header = tpm::parse_header(received);
    if (header && (header->size < tpm::header_size || header->size > max_command ||
                   header->size < received_)) {
        return refuse(handler);
    }
    if (!header || header->size > received_) {
        if (!deadline_)
            deadline_ = now_() + patience;
        return true;
    }
    deadline_.reset();
    const auto size = std::min(handler.handle(received, locality, response_), response_.size());
    wipe(MutableByteView(request_).first(received_));
    received_ = 0;
    return respond(size);
}

bool DataChannel::on_time(xen::RequestHandler& handler) {
    return refuse(handler);
}

DataChannel::Got DataChannel::read_some() {
    const auto room = MutableByteView(request_).subspan(received_);
    const auto got = ::read(socket_.get(), room.data(), room.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return Got::nothing;
    if (got <= 0)
        return Got::end;
    received_ += static_cast<std::size_t>(got);
    return Got::bytes;
}

bool DataChannel::refuse(xen::RequestHandler& handler) {
    deadline_.reset();
    // What else is there belongs to it. A peer that goes on writing is not waited for: after a
    // buffer or two of a socket the rest is refused anew.
    for (int i = 0; i < 128; ++i) {
        received_ = 0;
        pollfd there{socket_.get(), POLLIN, 0};
        if (::poll(&there, 1, 0) <= 0)
            break;
        const auto got = read_some();
        if (got == Got::end)
            return false;
        if (got == Got::nothing)
            break;
    }
    wipe(request_);
    received_ = 0;
    return respond(
        std::min(handler.refuse(xen::RequestFault::too_long, response_), response_.size()));
}

bool DataChannel::respond(std::size_t size) {
    const auto response = MutableByteView(response_).first(size);
    const auto written = ::write(socket_.get(), response.data(), response.size());
    wipe(response);
    return written == static_cast<ssize_t>(size);
}

}  // namespace vtpm::swtpm_engine
