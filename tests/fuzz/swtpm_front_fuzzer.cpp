// What a peer of vtpm-swtpm's sends: pieces on the data channel, between which it may fall silent,
// and requests on the control channel, with the tickets in them.
#include <fcntl.h>
#include <unistd.h>

#include "control_message.h"
#include "data_channel.h"
#include "input.h"
#include "state_ticket.h"
#include "vtpm/tpm/message.h"

using namespace vtpm;
using fuzz::Input;
using fuzz::must;

namespace {

class Answers : public xen::RequestHandler {
  public:
    std::size_t handle(ByteView request, std::uint8_t, MutableByteView response) override {
        const auto header = tpm::parse_header(request);
        must(header && header->size == request.size(), "a command that is not what it says");
        return tpm::write_refusal(tpm::Version::v2_0, tpm::Refusal::failed, response);
    }
    std::size_t refuse(xen::RequestFault, MutableByteView response) override {
        return tpm::write_refusal(tpm::Version::v2_0, tpm::Refusal::bad_size, response);
    }
};

Bytes piece_of(Input& input) {
    if (input.rarely())
        return Bytes(input.u16() % 9000, input.u8());
    const std::uint32_t claimed = input.flag() ? 10 + input.u8() : input.edgy();
    Bytes bytes = ByteWriter().u16(0x8001).u32(claimed).u32(0x17b).take();
    bytes.resize(input.flag() ? std::min<std::size_t>(claimed, 8192) : input.u8());
    return bytes;
}

std::size_t read_all(int fd) {
    Bytes read(65536);
    const auto got = ::read(fd, read.data(), read.size());
    return got < 0 ? 0 : static_cast<std::size_t>(got);
}

// However it was treated, a peer that pauses and then sends one command gets one answer.
void data_channel(Input& input) {
    using Channel = swtpm_engine::DataChannel;
    auto pair = stream_socket_pair().value();
    for (const int fd : {pair.first.get(), pair.second.get()})
        must(::fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "no socket that does not wait");
    Channel channel(std::move(pair.first), [] { return Channel::Clock::time_point(); });
    Answers answers;
    while (!input.empty()) {
        const Bytes piece = piece_of(input);
        if (!piece.empty())
            must(write_all(pair.second.get(), piece).has_value(), "a socket that is full");
        for (std::size_t i = 0; i < 4; ++i)
            must(channel.on_readable(answers, 0), "a peer that reads loses its channel");
        must(read_all(pair.second.get()) <= 4 * tpm::header_size, "more answers than reads");
        if (input.flag() && channel.deadline()) {
            must(channel.on_time(answers), "a peer that reads loses its channel");
            must(read_all(pair.second.get()) == tpm::header_size, "silence has one answer");
        }
    }
    if (channel.deadline())
        must(channel.on_time(answers), "a peer that reads loses its channel");
    (void)read_all(pair.second.get());
    const Bytes command = ByteWriter().u16(0x8001).u32(12).u32(0x17b).u16(8).take();
    must(write_all(pair.second.get(), command).has_value(), "a socket that is full");
    must(channel.on_readable(answers, 0), "a peer that reads loses its channel");
    must(read_all(pair.second.get()) == tpm::header_size, "the stream is out of step");
}

void control_channel(Input& input) {
    Bytes bytes = ByteWriter().u32(input.flag() ? input.u8() % 24U : input.edgy()).take();
    for (std::size_t words = input.pick(5); words > 0; --words)
        bytes = ByteWriter().bytes(bytes).u32(input.edgy()).take();
    while (!input.empty())
        bytes.push_back(input.u8());
    bool malformed = false;
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
        swtpm::Request request{};
        const auto framing = swtpm::frame(ByteView(bytes).first(size), request);
        must(!malformed || framing == swtpm::Framing::malformed, "more bytes make it right");
        malformed = framing == swtpm::Framing::malformed;
        if (framing != swtpm::Framing::complete)
            continue;
        must(request.body.size() == size - 4, "a body that is not all that came");
        must(request.body.size() <= swtpm::max_request, "a body beyond its bound");
        if (request.command == swtpm::Command::hash_data)
            must(request.body.size() >= 4, "a measurement without its size");
        if (request.command == swtpm::Command::set_stateblob)
            must(request.body.size() >= 12, "a state blob without its size");
    }
    const auto ticket = swtpm::StateTicket::parse(bytes);
    must(!ticket || ticket->to_bytes() == bytes, "a ticket that says something else");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    if (input.flag())
        control_channel(input);
    else
        data_channel(input);
    return 0;
}
