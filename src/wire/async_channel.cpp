#include "vtpm/wire/async_channel.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>

#include "vtpm/base/descriptor_message.h"

namespace vtpm::wire {
namespace asio = boost::asio;
using boost::system::error_code;

namespace {

tl::unexpected<Error> fail_asio(const error_code& error) {
    return fail(Errc::unavailable, "connection: " + error.message());
}

}  // namespace

AsyncChannel::AsyncChannel(Socket socket, FrameSizes limits)
    : socket_(std::move(socket)), limits_(limits), timer_(socket_.get_executor()) {
    error_code ignored;
    socket_.non_blocking(true, ignored);
}

// The handler, which mostly holds who owns this channel, lies in the operation that waits and not
// in here: so it goes with the loop, if that ends first.
void AsyncChannel::receive(OnFrame handler) {
    incoming_ = Frame();
    socket_.async_wait(Socket::wait_read, [self = shared_from_this(), handler = std::move(handler)](
                                              const error_code& error) mutable {
        if (error)
            return self->finish_receive(handler, fail_asio(error));
        self->on_readable(std::move(handler));
    });
}

// Mostly a frame is there as a whole, and read without another turn of the loop.
void AsyncChannel::on_readable(OnFrame handler) {
    error_code error;
    const std::size_t got = socket_.read_some(asio::buffer(prefix_), error);
    if (error == asio::error::would_block)
        return receive(std::move(handler));
    if (error)
        return finish_receive(handler, fail_asio(error));
    if (got == prefix_size)
        return on_prefix(std::move(handler));
    // The first byte may take for ever, the rest may not.
    arm_timer();
    asio::async_read(socket_, asio::buffer(prefix_.data() + got, prefix_size - got),
                     [self = shared_from_this(), handler = std::move(handler)](
                         const error_code& failed, std::size_t) mutable {
                         if (failed)
                             return self->finish_receive(handler, fail_asio(failed));
                         self->on_prefix(std::move(handler));
                     });
}

void AsyncChannel::on_prefix(OnFrame handler) {
    auto sizes = parse_prefix(prefix_);
    if (!sizes)
        return finish_receive(handler, tl::make_unexpected(sizes.error()));
    if (sizes->message > limits_.message || sizes->payload > limits_.payload)
        return finish_receive(handler, fail(Errc::too_large, "a frame beyond the limits"));
    incoming_.message.resize(sizes->message);
    incoming_.payload = SecretBytes(sizes->payload);
    std::array<asio::mutable_buffer, 2> parts = {
        asio::buffer(incoming_.message),
        asio::buffer(incoming_.payload.span().data(), incoming_.payload.size())};
    error_code error;
    std::size_t got = 0;
    if (asio::buffer_size(parts) > 0)
        got = socket_.read_some(parts, error);
    if (error && error != asio::error::would_block)
        return finish_receive(handler, fail_asio(error));
    for (auto& part : parts) {
        const std::size_t taken = std::min(got, part.size());
        part += taken;
        got -= taken;
    }
    if (asio::buffer_size(parts) == 0)
        return finish_receive(handler, std::move(incoming_));
    arm_timer();
    asio::async_read(socket_, parts,
                     [self = shared_from_this(), handler = std::move(handler)](
                         const error_code& failed, std::size_t) {
                         if (failed)
                             return self->finish_receive(handler, fail_asio(failed));
                         self->finish_receive(handler, std::move(self->incoming_));
                     });
}

void AsyncChannel::finish_receive(const OnFrame& handler, Result<Frame> result) {
    timer_.cancel();
    if (!result)
        close();
    handler(std::move(result));
}

void AsyncChannel::arm_timer() {
    timer_.expires_after(frame_timeout);
    timer_.async_wait([weak = weak_from_this()](const error_code& error) {
        const auto self = weak.lock();
        if (error || !self)
            return;
        // What has arrived and was not read is this loop's delay, not the peer's.
        error_code ignored;
        if (self->socket_.available(ignored) > 0)
            return self->arm_timer();
        self->close();
    });
}

void AsyncChannel::send(const google::protobuf::MessageLite& message, SecretBytes payload,
                        Fd descriptor, OnSent handler) {
    const std::size_t size = message.ByteSizeLong();
    if (size > max_message_size || payload.size() > max_payload_size) {
        return handler(fail(Errc::too_large, "a frame beyond the limits"));
    }
    outgoing_ = frame_prefix({size, payload.size()});
    outgoing_.resize(prefix_size + size);
    message.SerializeWithCachedSizesToArray(outgoing_.data() + prefix_size);
    outgoing_payload_ = std::move(payload);
    std::size_t sent = 0;
    if (descriptor.valid()) {
        if (auto given = send_descriptor(descriptor.get()); !given) {
            close();
            return handler(std::move(given));
        }
        sent = 1;
    }
    const std::array<asio::const_buffer, 2> parts = {
        asio::buffer(outgoing_.data() + sent, outgoing_.size() - sent),
        asio::buffer(outgoing_payload_.view().data(), outgoing_payload_.size())};
    asio::async_write(socket_, parts,
                      [self = shared_from_this(), handler = std::move(handler)](
                          const error_code& error, std::size_t) {
                          self->outgoing_payload_ = SecretBytes();
                          if (!error)
                              return handler({});
                          self->close();
                          handler(fail_asio(error));
                      });
}

// The descriptor rides on the first byte of the frame. In lockstep the socket's buffer is empty, so
// a peer that makes even one byte wait is not one of ours.
Result<void> AsyncChannel::send_descriptor(int descriptor) {
    DescriptorMessage message(MutableByteView(outgoing_).first(1), descriptor);
    if (::sendmsg(socket_.native_handle(), message.header(), MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
        return fail_errno("sending a descriptor", errno);
    }
    return {};
}

void AsyncChannel::close() {
    error_code ignored;
    timer_.cancel(ignored);
    socket_.close(ignored);
}

}  // namespace vtpm::wire
