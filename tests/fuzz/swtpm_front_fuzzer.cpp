// What a peer of vtpm-swtpm's sends: pieces on the data channel, between which it may fall silent,
// and requests on the control channel, with the tickets in them. And what its manager has on the
// command line of swtpm.
#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <iostream>

#include "control_message.h"
#include "data_channel.h"
#include "fakes/chip/swtpm.h"
#include "input.h"
#include "state_directory.h"
#include "state_ticket.h"
#include "swtpm_command_line.h"
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

const std::string uuid = "11111111-2222-4333-8444-555555555555";

// A state directory with a TPM 2.0 in it.
std::filesystem::path state_directory() {
    static const fakes::TemporaryDirectory directory;
    std::ofstream(directory.path() / "tpm2-00.permall") << "xen-vtpm-instance " << uuid << "\n";
    return directory.path();
}

// No f: a key's file, which may be to be removed, has the name below and no other.
std::string any_text(Input& input) {
    std::string text = input.text(12);
    for (char& c : text)
        c = c == 'f' || c == '\0' ? '_' : c;
    return text;
}

std::string settings(Input& input, const std::vector<std::string>& usual,
                     const std::string& directory) {
    static const std::vector<std::string> others = {"type=unixio",
                                                    "type=tcp",
                                                    "path=a",
                                                    "path=b",
                                                    "fd=7",
                                                    "fd=1",
                                                    "clientfd=8",
                                                    "fd=-1",
                                                    "mode=x",
                                                    "mode=0600",
                                                    "uid=0",
                                                    "gid=4294967295",
                                                    "file=/nowhere/log",
                                                    "remove",
                                                    "level=5",
                                                    "format=hex",
                                                    "terminate",
                                                    "reject-locality-4",
                                                    "lock",
                                                    "pwdfd=9",
                                                    "prefix",
                                                    "startup-clear"};
    std::string text;
    const std::size_t count = input.rarely() ? input.pick(5) : usual.size();
    for (std::size_t i = 0; i < count; ++i) {
        const auto one = input.rarely()   ? input.one_of(others)
                         : input.rarely() ? any_text(input)
                                          : (i < usual.size() ? usual[i] : input.one_of(others));
        text += (text.empty() ? "" : ",") + one;
    }
    return text == "dir=" ? text + directory : text;
}

std::vector<std::string> command_line(Input& input) {
    static const std::string directory = state_directory().string();
    struct Option {
        const char* name;
        std::vector<std::string> settings;
    };
    static const std::vector<Option> options = {
        {"--ctrl", {"type=unixio", "path=ctrl", "mode=0600"}},
        {"--server", {"type=unixio", "path=data"}},
        {"--tpmstate", {"dir="}},
        {"--fd", {"9"}},
        {"--flags", {"not-need-init", "startup-clear"}},
        {"--locality", {"reject-locality-4"}},
        {"--log", {"file=log", "level=20"}},
        {"--pid", {"file=pid"}},
        {"--key", {"file=/nowhere/key", "mode=aes-256-cbc", "remove"}},
        {"--migration-key", {"pwdfd=7"}},
        {"--migration", {"incoming"}},
        {"--seccomp", {"action=none"}},
        {"--runas", {"root"}},
        {"--xen-vtpm", {"manager=m", "run-dir=r"}}};
    std::vector<std::string> words = {"swtpm", input.rarely() ? any_text(input) : "socket",
                                      "--tpm2"};
    std::vector<std::size_t> which = {0, 2};  // what each has
    for (std::size_t more = input.pick(6); more > 0; --more)
        which.push_back(input.pick(options.size()));
    for (const std::size_t i : which) {
        if (input.rarely())
            continue;
        words.emplace_back(input.rarely() ? any_text(input) : options[i].name);
        words.push_back(settings(input, options[i].settings, directory));
    }
    for (const char* const flag : {"--daemon", "--terminate", "-t", "--print-capabilities"}) {
        if (input.rarely())
            words.emplace_back(flag);
    }
    return words;
}

// What is taken names a TPM and a way to it; whatever else is there, it is refused in one way.
void swtpms_command_line(Input& input) {
    const auto words = command_line(input);
    std::vector<const char*> arguments;
    for (const auto& word : words)
        arguments.push_back(word.c_str());
    CLI::App app;
    swtpm::Options options;
    try {
        options = swtpm::parse_swtpm(app, static_cast<int>(arguments.size()), arguments.data());
    } catch (const CLI::ParseError&) {
        return;
    }
    must(options.as_swtpm && options.instance == uuid, "another TPM than its directory names");
    must(options.version == tpm::Version::v2_0, "of another version");
    std::vector<int> given;
    for (const auto* const end : {&options.control, &options.data}) {
        must(end->address.has_value() + (end->listener >= 0) + (end->peer >= 0) <= 1,
             "one channel of two kinds");
        must(!end->address || !end->address->path.empty(), "nowhere to listen");
        for (const int fd : {end->listener, end->peer}) {
            if (fd >= 0)
                given.push_back(fd);
        }
    }
    must(!given.empty() || options.control.address || options.data.address, "nobody can reach it");
    for (const int fd : given) {
        must(fd > STDERR_FILENO && ::fcntl(fd, F_GETFD) == FD_CLOEXEC, "a descriptor of others'");
        must(std::count(given.begin(), given.end(), fd) == 1, "one descriptor for two channels");
    }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    std::cout.setstate(std::ios::failbit);  // --print-capabilities
    // Some to be given.
    for (const int fd : {7, 8, 9})
        must(::fcntl(fd, F_GETFD) >= 0 || ::dup2(STDIN_FILENO, fd) == fd, "no descriptor");
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    switch (input.pick(3)) {
        case 0:
            data_channel(input);
            break;
        case 1:
            control_channel(input);
            break;
        default:
            swtpms_command_line(input);
    }
    return 0;
}
