// A TPM 1.2 on a socket, as swtpm has it, and the bus to it: libtpms, and somebody who may change,
// exchange, replay, refuse, cut and withhold its answers, and change commands. With the
// authorization values he makes the HMACs right again: then it is the chip itself that lies.
//
// All in one thread: what a link sends is answered before send() returns, and comes when the link
// polls for it. One link at a time.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <deque>
#include <map>
#include <stdexcept>

#include "chip/tpm12_structures.h"
#include "fakes/chip/swtpm.h"
#include "honest_chip.h"
#include "input.h"

namespace vtpm::fuzz {

// Where a link finds the bus: as long as the process.
class Door {
  public:
    static Door& get() {
        static Door door;
        return door;
    }
    std::string tcti() const { return "swtpm:path=" + path_; }
    Fd visitor() { return Fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

  private:
    Door() {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        must(::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                 ::listen(fd_.get(), 8) == 0,
             "no socket to listen on");
    }

    fakes::TemporaryDirectory place_;
    std::string path_ = (place_.path() / "chip").string();
    Fd fd_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
};

class Bus12 {
  public:
    using Ordinal = chip::tpm12::Ordinal;
    using Sha1 = chip::tpm12::Sha1;
    static constexpr std::size_t header = 10;
    static constexpr std::size_t session_asks = 45;     // handle, nonce, continue, HMAC
    static constexpr std::size_t session_answers = 41;  // nonce, continue, HMAC
    static inline Bus12* the_bus = nullptr;

    Bus12() : Bus12(engine::PowerOn{tpm::Version::v1_2, true, {}, {}, {}}) {}
    explicit Bus12(const Snapshot& snapshot) : Bus12(gone_on(tpm::Version::v1_2, snapshot)) {}
    ~Bus12() { the_bus = nullptr; }
    Bus12(const Bus12&) = delete;
    Bus12& operator=(const Bus12&) = delete;

    Snapshot snapshot() { return snapshot_of(tpm_); }

    Input* meddler = nullptr;       // null: the answers are the chip's own
    Bytes endorsement_key = {};     // as a chip that nobody owns has told it
    std::optional<Sha1> cell_auth;  // of who makes HMACs right again
    bool lost = false;              // an answer that something depends on did not come
    bool locked_out = false;        // the chip has counted too many wrong HMACs

    void on_sent() {
        accept_visitors();
        Bytes command(5000);
        const auto size = ::recv(link_.get(), command.data(), command.size(), MSG_DONTWAIT);
        must(size >= 10, "a command without a header");
        command.resize(static_cast<std::size_t>(size));
        must(number_at(command, 2) == command.size(), "a command that is not as long as it says");
        answer(command);
    }

    // The next piece of an answer goes out when somebody waits for one.
    void on_poll() {
        if (pieces_.empty())
            return;
        const Bytes piece = std::move(pieces_.front());
        pieces_.pop_front();
        if (piece.empty())
            link_.reset();
        else if (link_.valid())
            (void)::sendto(link_.get(), piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                           nullptr, 0);
    }

  private:
    explicit Bus12(engine::PowerOn start) {
        the_bus = this;
        must(tpm_.power_on(std::move(start)).has_value(), "the TPM does not start");
        accept_visitors();  // who did not wait for an earlier bus
        link_.reset();
    }
    static std::uint32_t number_at(ByteView bytes, std::size_t at) {
        ByteReader reader(bytes.subspan(std::min(at, bytes.size())));
        return reader.u32().value_or(0);
    }
    static void put(Bytes& bytes, std::size_t at, std::uint32_t number) {
        for (std::size_t i = 0; i < 4 && at + i < bytes.size(); ++i)
            bytes[at + i] = static_cast<std::uint8_t>(number >> (24 - 8 * i));
    }
    static Bytes message(std::uint16_t tag, std::uint32_t code, ByteView content) {
        return ByteWriter()
            .u16(tag)
            .u32(static_cast<std::uint32_t>(header + content.size()))
            .u32(code)
            .bytes(content)
            .take();
    }
    static std::size_t sessions_of(ByteView command) {
        return static_cast<std::size_t>(number_at(command, 0) >> 16U) - 0xc1;
    }

    void accept_visitors() {
        for (Fd next = Door::get().visitor(); next.valid(); next = Door::get().visitor()) {
            link_ = std::move(next);
            pieces_.clear();
        }
    }

    Bytes run(ByteView command) {
        std::array<std::uint8_t, 4096> answer{};
        const std::size_t size = tpm_.execute(command, 0, answer);
        locked_out |= number_at(answer, 6) == 0x803;
        return {answer.begin(), answer.begin() + static_cast<std::ptrdiff_t>(size)};
    }

    void answer(const Bytes& command) {
        const auto ordinal = static_cast<Ordinal>(number_at(command, 6));
        Bytes said;
        if (meddler == nullptr || meddler->u8() < 0xd0)
            said = run(command);
        else
            said = meddled(ordinal, command);
        if (ordinal == Ordinal::read_pubek && endorsement_key.empty() && said.size() > header + 20)
            endorsement_key.assign(said.begin() + header, said.end() - 20);
        if (ordinal == Ordinal::osap)
            note_shared(command, said);
        if (meddler != nullptr)
            old_[ordinal] = said;
        if (!said.empty())
            pieces_.push_back(std::move(said));
    }

    Bytes meddled(Ordinal ordinal, const Bytes& command) {
        constexpr std::array<std::uint32_t, 16> codes = {
            1, 2, 38, 34, 0x800, 0x801, 0x802, 0x803, 24, 19, 29, 33, 21, 17, 30, 0x18b};
        const std::size_t kind = meddler->pick(10);
        if (kind == 0) {  // refused, and perhaps done
            if (meddler->flag())
                (void)run(command);
            return message(0xc4, meddler->one_of(codes), {});
        }
        if (kind == 1)
            return withheld(ordinal, command);
        if (kind == 2)
            return signed_again(ordinal, command, made_up(ordinal, command));
        if (kind == 3 && commands_to_change_ > 0) {  // more of them lock the chip
            --commands_to_change_;
            Bytes other = meddler->changed(command);
            put(other, 2, static_cast<std::uint32_t>(other.size()));
            return run(other);
        }
        Bytes said = run(command);
        switch (kind) {
            case 4:
            case 5:  // an old one
                return old_.contains(ordinal) ? signed_again(ordinal, command, old_[ordinal])
                                              : said;
            case 6:
            case 7:  // one bit of what follows the header
                if (said.size() > header)
                    said[header + meddler->u16() % (said.size() - header)] ^=
                        static_cast<std::uint8_t>(1U << (meddler->u8() % 8));
                return signed_again(ordinal, command, std::move(said));
            case 8:
                return in_pieces(std::move(said));
            default:
                said = meddler->changed(std::move(said));
                // A size that is right leads further in.
                if (meddler->u8() < 0xc0)
                    put(said, 2, static_cast<std::uint32_t>(said.size()));
                return signed_again(ordinal, command, std::move(said));
        }
    }

    // Nothing, or not all, and then the end or silence.
    Bytes withheld(Ordinal ordinal, const Bytes& command) {
        lost |= ordinal != Ordinal::flush_specific;  // nothing depends on that
        Bytes said = meddler->flag() ? run(command) : Bytes();
        said.resize(said.empty() ? 0 : meddler->u16() % said.size());
        if (!said.empty())
            pieces_.push_back(std::move(said));
        if (meddler->flag())
            pieces_.emplace_back();
        return {};
    }

    Bytes in_pieces(Bytes said) {
        const Bytes more = meddler->flag() ? meddler->bytes(32) : Bytes();
        const std::size_t first = 1 + meddler->pick(20);
        if (said.size() > first) {
            pieces_.emplace_back(said.begin(), said.begin() + static_cast<std::ptrdiff_t>(first));
            said.erase(said.begin(), said.begin() + static_cast<std::ptrdiff_t>(first));
        }
        said.insert(said.end(), more.begin(), more.end());
        return said;
    }

    // What another chip might say, or this one at another time.
    Bytes made_up(Ordinal ordinal, const Bytes& command) {
        ByteWriter content;
        switch (ordinal) {
            case Ordinal::read_pubek: {
                const Bytes key = meddler->rarely_changed(endorsement_key);
                const ByteView nonce = ByteView(command).subspan(header);
                content.bytes(key).bytes(chip::tpm12::sha1({key, nonce}));
                break;
            }
            case Ordinal::get_capability:
                content.sized(capability(number_at(command, header), command));
                break;
            case Ordinal::get_random:
                content.sized(Bytes(std::min<std::size_t>(meddler->edgy(), 4000), 0x5a));
                break;
            case Ordinal::unseal:
            case Ordinal::nv_read_value_auth:
                content.sized(Bytes(meddler->pick(140), 0x5a));
                break;
            default:
                content.bytes(meddler->bytes(80));
        }
        const std::size_t sessions = sessions_of(command);
        content.bytes(Bytes(sessions * session_answers));
        return message(static_cast<std::uint16_t>(0xc4 + sessions), 0, content.written());
    }
    Bytes capability(std::uint32_t area, const Bytes& command) {
        ByteWriter said;
        if (area == 0x05)  // nobody owns it
            return {0};
        if (area == 0x0d || area == 0x14) {  // NV indices, sessions
            const std::size_t count = meddler->pick(meddler->rarely() ? 1000 : 12);
            if (area == 0x14)
                said.u16(static_cast<std::uint16_t>(count));
            for (std::size_t i = 0; i < count; ++i)
                said.u32(0x00560000 | (meddler->flag() ? 0x0500 + meddler->u8() % 8U : 0x0100));
            return said.take();
        }
        // TPM_NV_DATA_PUBLIC of a cell
        const Bytes any_pcrs = ByteWriter().u16(3).bytes(Bytes(3)).u8(0x1f).bytes(Bytes(20)).take();
        said.u16(0x18).u32(number_at(command, header + 8)).bytes(any_pcrs).bytes(any_pcrs);
        said.u16(0x17).u32(0x00040004).bytes(Bytes(3)).u32(64);
        return meddler->rarely_changed(said.take());
    }

    void note_shared(const Bytes& command, const Bytes& said) {
        if (command.size() < header + 26 || said.size() < header + 44)
            return;
        const ByteView odd = ByteView(command).subspan(header + 6, 20);
        const ByteView even = ByteView(said).subspan(header + 24, 20);
        shared_ = chip::tpm12::hmac_sha1(chip::tpm12::well_known, {even, odd});
    }

    // With the HMACs that belong to it, if who meddles can make them.
    Bytes signed_again(Ordinal ordinal, const Bytes& command, Bytes said) {
        const std::size_t count = sessions_of(command);
        if (!cell_auth || said.size() < header + count * session_answers)
            return said;
        Sha1 key = chip::tpm12::well_known;
        if (ordinal == Ordinal::seal || ordinal == Ordinal::nv_define_space)
            key = shared_;
        if (ordinal == Ordinal::nv_read_value_auth || ordinal == Ordinal::nv_write_value_auth)
            key = *cell_auth;
        const std::size_t tail = said.size() - count * session_answers;
        const ByteView number = ByteView(command).subspan(6, 4);
        const Sha1 digest = chip::tpm12::sha1(
            {chip::tpm12::u32_bytes(0), number, ByteView(said).subspan(header, tail - header)});
        for (std::size_t i = 0; i < count; ++i) {
            const auto asked = ByteView(command).subspan(
                command.size() - (count - i) * session_asks, session_asks);
            const auto here = MutableByteView(said).subspan(tail + i * session_answers);
            const Sha1 mac = chip::tpm12::hmac_sha1(
                key, {digest, here.first(20), asked.subspan(4, 20), here.subspan(20, 1)});
            std::copy(mac.begin(), mac.end(), here.begin() + 21);
        }
        return said;
    }

    engine::LibtpmsEngine tpm_;
    Fd link_;
    std::deque<Bytes> pieces_;  // of answers that are still to come; an empty one: the end
    std::map<Ordinal, Bytes> old_;
    Sha1 shared_{};
    int commands_to_change_ = 3;
};

}  // namespace vtpm::fuzz
