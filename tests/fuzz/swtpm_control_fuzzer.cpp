// What a machine and its managers ask on the control channel, one request after another, while
// engines die and the vtpmmgrd comes and goes: ControlChannel, ControlServer and SocketTpm.
//
// Whatever comes, a TPM begins anew only when its machine does, and goes on only from what was put
// by for it.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "control_channel.h"
#include "control_server.h"
#include "fakes/chip/swtpm.h"
#include "swtpm_world.h"
#include "vtpm/base/log.h"

using namespace vtpm;
using namespace vtpm::swtpm;
using fuzz::Input;
using fuzz::must;

namespace {

constexpr unsigned opens_at_once = 9;  // see SocketTpm::holds_
const Uuid own = Uuid::parse("11111111-2222-4333-8444-555555555555").value();
const Uuid foreign = Uuid::parse("66666666-7777-4888-9999-aaaaaaaaaaaa").value();

std::uint32_t u32_at(ByteView bytes, std::size_t at) {
    ByteReader reader(bytes.subspan(std::min(at, bytes.size())));
    return reader.u32().value_or(0);
}

class Machine {
  public:
    Machine(Input& input, fuzz::SwtpmWorld& world, const std::string& directory)
        : input_(input),
          world_(world),
          kept_(directory + "/volatile"),
          refuses_4_(input.flag()),
          manager_("", SecretBytes(16)),
          tpm_({own, "web1", world.version}, manager_, SeatNumber::take(directory).value(), ""),
          server_(tpm_, {kept_, directory + "/tpm2-00.permall", refuses_4_}) {
        connect();
        (void)tpm_.begin();
    }

    void act() {
        switch (input_.pick(12)) {
            case 11:
                if (tpm_.engine_fd() >= 0)
                    tpm_.on_engine();
                break;
            case 10:
                world_.manager.reset();
                if (manager_.fd() >= 0)
                    tpm_.on_manager();
                break;
            case 9:
                tpm_.tick(SocketTpm::Clock::now() + std::chrono::seconds(10));
                break;
            case 8:
                data_peer_written();
                break;
            case 7:
                leave_kept_state();
                break;
            case 6:
                if (input_.rarely()) {
                    parked_as_.reset();
                    (void)tpm_.abandon();
                }
                break;
            default:
                ask();
        }
        (void)tpm_.has_data();
        must(!tpm_.is_on() || world_.engine.runs || world_.engine.dead, "it is on, and none runs");
        if (tpm_.is_on() || parked_as_ != world_.put_by)
            parked_as_.reset();
        must(!parked_as_ || tpm_.is_parked(), "a TPM that is put by is forgotten");
    }

  private:
    void connect() {
        auto pair = stream_socket_pair().value();
        control_.emplace(std::move(pair.first));
        peer_ = std::move(pair.second);
    }

    // A command of the guest's, or the end of its channel.
    void data_peer_written() {
        if (input_.flag())
            (void)!::write(data_peer_.get(), "x", 1);
        else
            data_peer_.reset();
        if (tpm_.parked_data_fd() >= 0)
            tpm_.on_parked_data(std::chrono::milliseconds(0));
    }

    Bytes ticket() {
        StateTicket ticket{input_.rarely() ? BlobType::permanent : BlobType::volatile_state,
                           input_.rarely() ? foreign : own, 0};
        if (!input_.rarely() && !world_.labels.empty())
            ticket.label =
                *std::next(world_.labels.begin(),
                           static_cast<std::ptrdiff_t>(input_.pick(world_.labels.size())));
        else
            ticket.label = input_.edgy();
        const Bytes bytes = input_.rarely_changed(ticket.to_bytes());
        if (const auto said = StateTicket::parse(bytes); said && said->instance == own)
            world_.labels.insert(said->label);
        return bytes;
    }

    void leave_kept_state() {
        const Fd file(::open(kept_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        (void)write_all(file.get(), ticket());
    }

    Bytes body_of(Command command) {
        const auto words = [](std::initializer_list<std::uint32_t> numbers) {
            ByteWriter writer;
            for (const auto number : numbers)
                writer.u32(number);
            return writer.take();
        };
        switch (command) {
            case Command::init:
                return words({input_.flag() ? 1U : 0U});
            case Command::set_locality:
            case Command::reset_established:
                return words({static_cast<std::uint32_t>(input_.pick(7)) << 24U});
            case Command::hash_data: {
                const Bytes data = input_.bytes(64);
                return ByteWriter().u32(static_cast<std::uint32_t>(data.size())).bytes(data).take();
            }
            case Command::get_stateblob:
                return words({1, 1 + static_cast<std::uint32_t>(input_.pick(3)),
                              input_.rarely() ? input_.edgy() : 0});
            case Command::set_stateblob: {
                const Bytes blob = ticket();
                return ByteWriter()
                    .u32(0)
                    .u32(blob.size() < 12 ? 2 : u32_at(blob, 8))
                    .u32(static_cast<std::uint32_t>(blob.size()))
                    .bytes(blob)
                    .take();
            }
            case Command::set_buffersize:
                return words({input_.edgy()});
            case Command::get_info:
                return words({0, 1, input_.rarely() ? input_.edgy() : 0, 0});
            case Command::lock_storage:
                return words({0});  // more is time to wait
            default:
                return {};
        }
    }

    // Half of what a machine asks is about whether there is a TPM and which.
    Command command() {
        constexpr std::array<Command, 8> often = {Command::init,          Command::init,
                                                  Command::stop,          Command::set_datafd,
                                                  Command::get_stateblob, Command::set_stateblob,
                                                  Command::lock_storage,  Command::store_volatile};
        return input_.flag() ? static_cast<Command>(1 + input_.pick(20)) : input_.one_of(often);
    }

    void send(ByteView bytes, int descriptor) {
        alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> space{};
        iovec part{const_cast<std::uint8_t*>(bytes.data()), bytes.size()};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        if (descriptor >= 0) {
            message.msg_control = space.data();
            message.msg_controllen = space.size();
            auto* const head = CMSG_FIRSTHDR(&message);
            head->cmsg_level = SOL_SOCKET;
            head->cmsg_type = SCM_RIGHTS;
            head->cmsg_len = CMSG_LEN(sizeof(int));
            std::memcpy(CMSG_DATA(head), &descriptor, sizeof(int));
        }
        must(::sendmsg(peer_.get(), &message, MSG_DONTWAIT) == static_cast<ssize_t>(bytes.size()),
             "a control channel that is full");
    }

    Fd descriptor_for(Command command) {
        if (command != Command::set_datafd ? !input_.rarely() : input_.rarely())
            return {};
        if (input_.rarely())
            return Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
        auto pair = stream_socket_pair().value();
        data_peer_ = std::move(pair.first);
        return std::move(pair.second);
    }

    void ask() {
        using Turn = ControlChannel::Turn;
        const auto asked = command();
        const Bytes bytes = input_.rarely_changed(
            ByteWriter().u32(static_cast<std::uint32_t>(asked)).bytes(body_of(asked)).take());
        if (bytes.empty())
            return;
        const Fd descriptor = descriptor_for(asked);
        const std::size_t first = input_.rarely() ? 1 + input_.pick(bytes.size()) : bytes.size();
        send(ByteView(bytes).first(first), descriptor.get());
        auto turn = control_->on_readable({});
        if (turn == Turn::nothing && first < bytes.size()) {
            send(ByteView(bytes).subspan(first), -1);
            turn = control_->on_readable({});
        }
        if (turn == Turn::nothing) {
            must(control_->deadline().has_value(), "half a request is waited for without an end");
            return connect();
        }
        const Request request = control_->request();
        if (turn == Turn::malformed)
            return answered(request.command, false, ControlServer::refuse(request));
        world_.power_is_new = request.command == Command::init;
        if (world_.power_is_new || request.command == Command::stop ||
            request.command == Command::shutdown)
            parked_as_.reset();
        const Bytes body(request.body.begin(), request.body.end());
        const Bytes answer = server_.handle(request, control_->take_descriptor());
        world_.power_is_new = false;
        answered(request.command, true, answer);
        look_at(request.command, body, answer);
        if (server_.shut_down()) {
            must(tpm_.engine_fd() < 0 && manager_.fd() < 0, "what it had is kept after a SHUTDOWN");
            server_.begin_again();
            (void)tpm_.begin();
        }
    }

    // Peers read as many bytes as the command's answer has, and wait for them.
    void answered(Command command, bool was_one, const Bytes& answer) {
        must(control_->send(answer), "a peer that reads loses its channel");
        Bytes got(65536);
        const auto size = ::recv(peer_.get(), got.data(), got.size(), MSG_DONTWAIT);
        must(size == static_cast<ssize_t>(answer.size()), "one request, not one answer");
        std::size_t expected = answer_size(command);
        const bool done = u32_at(answer, 0) == result::success;
        must(was_one || !done, "what is no request is done");
        if (done && command == Command::get_stateblob)
            expected += u32_at(answer, 12);
        if (done && command == Command::get_info)
            expected += u32_at(answer, 8);
        must(answer.size() == expected, "an answer of another length than peers read");
    }

    void look_at(Command command, ByteView body, ByteView answer) {
        const auto result = u32_at(answer, 0);
        const bool done = result == result::success;
        const std::uint8_t first = body.empty() ? 0 : body[0];
        switch (command) {
            case Command::init:
                must(!done || (tpm_.is_on() && world_.engine.runs), "an INIT that gave no power");
                break;
            case Command::stop:
                must(!done || (!tpm_.is_on() && !tpm_.is_parked()), "a STOP that took no power");
                break;
            case Command::set_locality:
                must(!done || first < (refuses_4_ ? 4 : 5), "a locality that there is not");
                break;
            case Command::cancel:
                must(!done || (tpm_.is_on() && world_.version == tpm::Version::v2_0),
                     "what cannot be cancelled was");
                break;
            case Command::get_stateblob:
                if (done)
                    look_at_blob(body, answer);
                break;
            case Command::set_stateblob:
                if (done && body.size() > 12) {
                    const auto ticket = StateTicket::parse(body.subspan(12));
                    must(ticket && ticket->instance == own, "a state that is not this TPM's");
                }
                break;
            case Command::store_volatile:
                if (done) {
                    const auto left = read_file(kept_.c_str(), 64);
                    const auto ticket = left ? StateTicket::parse(*left) : fail(Errc::io, "");
                    must(ticket && ticket->label != 0 && tpm_.is_on(), "nothing is kept");
                    world_.labels.insert(ticket->label);
                }
                break;
            default:
                break;
        }
    }

    void look_at_blob(ByteView body, ByteView answer) {
        must(tpm_.is_parked() && !tpm_.is_on(), "a state is given away, and goes on here");
        if (u32_at(body, 8) != 0)
            return;  // its rest
        const auto ticket = StateTicket::parse(answer.subspan(16));
        must(ticket && ticket->instance == own, "a ticket for another TPM");
        must(static_cast<std::uint32_t>(ticket->type) == u32_at(body, 4), "of another type");
        must(world_.labels.contains(ticket->label), "a ticket for nothing");
        if (ticket->label == world_.put_by)
            parked_as_ = ticket->label;
    }

    Input& input_;
    fuzz::SwtpmWorld& world_;
    std::string kept_;
    bool refuses_4_;
    doorman::ManagerClient manager_;
    SocketTpm tpm_;
    ControlServer server_;
    std::optional<ControlChannel> control_;
    Fd peer_;
    Fd data_peer_;
    std::optional<std::uint64_t> parked_as_;  // for as long as it is to go on here
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    spdlog::set_level(spdlog::level::off);
    ::signal(SIGPIPE, SIG_IGN);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const fakes::TemporaryDirectory directory;
    ::unlink((directory.path() / "volatile").c_str());
    Input input(data, size);
    fuzz::SwtpmWorld world{input, input.flag() ? tpm::Version::v1_2 : tpm::Version::v2_0, own};
    fuzz::swtpm_world() = &world;
    Machine machine(input, world, directory.path());
    for (int turn = 0; turn < 40 && !input.empty() && world.opens < opens_at_once; ++turn)
        machine.act();
    return 0;
}
