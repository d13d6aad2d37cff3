// The ring page under the reader's feet: a guest that writes between any two reads of the back
// end's, and a back end that does the same to a front end.
//
// The sources that read the page are built to call us before each load (-fsanitize-coverage=
// trace-loads), so the changes come where the input says, and what was read is known exactly: no
// byte of the page may be read twice for one command.
#include <cstdlib>
#include <cstring>
#include <memory>

#include "input.h"
#include "vtpm/xen/back_ring.h"
#include "vtpm/xen/front_ring.h"

using namespace vtpm;
using namespace vtpm::xen;
using fuzz::Input;
using fuzz::must;

namespace {

struct Free {
    void operator()(std::uint8_t* memory) const { std::free(memory); }
};

// The page, and whoever else writes it.
class Peer {
  public:
    explicit Peer(Input& input)
        : input_(input), memory_(static_cast<std::uint8_t*>(std::aligned_alloc(4096, 4096))) {
        std::memset(memory_.get(), 0, 4096);
        the_peer = this;
    }
    ~Peer() { the_peer = nullptr; }
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;

    static Peer* the_peer;

    std::uint8_t* memory() { return memory_.get(); }
    tpmif::Header header() const {
        tpmif::Header header{};
        std::memcpy(&header, memory_.get(), sizeof header);
        return header;
    }

    void write_header() {
        tpmif::Header header{};
        header.length = input_.rarely() ? input_.edgy() : 10 + input_.u8();
        header.state = input_.rarely() ? input_.u8() : static_cast<std::uint8_t>(input_.pick(4));
        header.locality = input_.rarely() ? input_.u8() : 0;
        header.nr_extra_pages = input_.rarely() ? input_.u8() : 0;
        std::memcpy(memory_.get(), &header, sizeof header);
    }
    void submit() {
        write_header();
        memory_[offsetof(tpmif::Header, state)] = tpmif::state::submit;
    }
    void write_something() {
        switch (input_.pick(4)) {
            case 0:
                return write_header();
            case 1:
                memory_[offsetof(tpmif::Header, state)] =
                    static_cast<std::uint8_t>(input_.u8() % 5);
                return;
            case 2:
                memory_[input_.u16() % 4096] = input_.u8();
                return;
            default:
                std::memset(memory_.get(), input_.u8(), 4096);
        }
    }

    // From here on every load counts, and the peer acts at some of them.
    void begin() {
        loads_.fill(0);
        watching_ = true;
        wait_ = input_.u8() * 4U;
    }
    void end() { watching_ = false; }
    const Bytes& packet_read() const { return read_; }
    const tpmif::Header& header_read() const { return header_; }
    bool header_was_read() const { return loads_[0] != 0; }

    // Before `size` bytes at `address` are read.
    void load(const void* address, std::size_t size) {
        const auto at = static_cast<const std::uint8_t*>(address) - memory_.get();
        if (!watching_ || at < 0 || at >= 4096)
            return;
        must(static_cast<std::size_t>(at) + size <= 4096, "a read runs over the page's end");
        if (wait_-- == 0) {
            write_something();
            wait_ = input_.empty() ? 100'000 : input_.u8();
        }
        for (std::size_t i = 0; i < size; ++i) {
            const std::size_t byte = static_cast<std::size_t>(at) + i;
            must(++loads_[byte] == 1, "a byte of the page is read twice for one command");
            read_[byte] = memory_[byte];
        }
        if (at == 0 && size == sizeof header_)
            header_ = header();
    }

  private:
    Input& input_;
    std::unique_ptr<std::uint8_t[], Free> memory_;
    bool watching_ = false;
    std::size_t wait_ = 0;
    std::array<std::uint8_t, 4096> loads_{};
    Bytes read_ = Bytes(4096);
    tpmif::Header header_{};
};
Peer* Peer::the_peer = nullptr;

class Bell final : public EventChannel {
  public:
    int fd() const override { return -1; }
    Result<void> notify() override {
        ++rung;
        if (broken)
            return fail(Errc::io, "no bell");
        return {};
    }
    Result<void> consume() override { return {}; }

    unsigned rung = 0;
    bool broken = false;
};

class Handler final : public RequestHandler {
  public:
    Handler(Input& input, Peer& peer) : input_(input), peer_(peer) {}

    BackRing* ring = nullptr;
    Bytes answer;
    std::size_t said = 0;
    bool called = false;

    std::size_t handle(ByteView request, std::uint8_t locality, MutableByteView room) override {
        const auto header = peer_.header_read();
        must(header.nr_extra_pages == 0, "a request with extra pages is not refused");
        must(request.size() == header.length && !request.empty(), "a request of another length");
        must(request.size() <= tpmif::max_packet, "a request longer than the page");
        must(locality == header.locality, "another locality");
        const auto* const packet = peer_.packet_read().data() + sizeof(tpmif::Header);
        must(std::equal(request.begin(), request.end(), packet), "a request of other bytes");
        return respond(room);
    }
    std::size_t refuse(RequestFault fault, MutableByteView room) override {
        const auto header = peer_.header_read();
        const bool right = header.nr_extra_pages != 0 ? fault == RequestFault::extra_pages
                           : header.length == 0       ? fault == RequestFault::empty
                                                      : fault == RequestFault::too_long &&
                                                      header.length > tpmif::max_packet;
        must(right, "refused for another reason");
        return respond(room);
    }

  private:
    std::size_t respond(MutableByteView room) {
        called = true;
        peer_.end();
        const std::size_t acts = input_.pick(4);
        for (std::size_t i = 0; i < acts; ++i)
            peer_.write_something();
        (void)ring->cancel_requested();
        std::fill(room.begin(), room.end(), input_.u8());
        said = input_.rarely() ? input_.edgy() : std::size_t{10} + input_.u8();
        answer.assign(room.begin(),
                      room.begin() + static_cast<std::ptrdiff_t>(std::min(said, room.size())));
        return said;
    }

    Input& input_;
    Peer& peer_;
};

void serve_once(Input& input, Peer& peer, BackRing& ring, Handler& handler, Bell& bell) {
    bell.broken = input.rarely();
    const unsigned rung = bell.rung;
    handler.called = false;
    peer.begin();
    const auto served = ring.serve(handler);
    peer.end();
    must(peer.header_was_read(), "a look that does not read the header");
    const auto seen = peer.header_read();
    const auto now = peer.header();
    if (seen.state == tpmif::state::submit) {
        must(handler.called, "a submit that nobody answers");
        must(bell.rung == rung + 1, "an answer without an event");
        must(now.state == tpmif::state::finish, "a submit that does not end in finish");
        must(now.length == handler.answer.size(), "an answer of another length");
        const auto* const packet =
            peer.memory() + sizeof now + std::size_t{seen.nr_extra_pages} * 4;
        must(packet + now.length <= peer.memory() + 4096, "an answer longer than the page");
        must(std::equal(handler.answer.begin(), handler.answer.end(), packet), "another answer");
        must(bell.broken != (served && *served == Served::command), "another outcome");
        return;
    }
    must(!handler.called, "a command out of nothing");
    const bool quiet = seen.state == tpmif::state::idle || seen.state == tpmif::state::finish;
    must(bell.rung == rung + (quiet ? 0U : 1U), "an event too many, or too few");
    must(now.state == (quiet ? seen.state : tpmif::state::idle), "another state");
}

void back_end(Input& input) {
    Peer peer(input);
    Bell bell;
    BackRing ring(SharedPage(peer.memory()), bell);
    Handler handler(input, peer);
    handler.ring = &ring;
    for (int turn = 0; turn < 64 && !input.empty(); ++turn) {
        if (input.rarely()) {
            peer.write_something();
        } else {
            peer.submit();
        }
        serve_once(input, peer, ring, handler, bell);
    }
    ring.close();
    for (std::size_t at = sizeof(tpmif::Header); at < 4096; ++at)
        must(peer.memory()[at] == 0, "something is left on the page");
}

void front_end(Input& input) {
    Peer peer(input);
    Bell bell;
    FrontRing ring(SharedPage(peer.memory()), bell);
    for (int turn = 0; turn < 64 && !input.empty(); ++turn) {
        bell.broken = input.rarely();
        const Bytes request(input.rarely() ? input.edgy() % 5000 : 10, 0x55);
        peer.begin();
        const auto sent = ring.submit(request, input.u8());
        peer.end();
        if (sent)
            must(peer.header().state == tpmif::state::submit, "nothing was submitted");
        peer.write_something();
        Bytes response(input.rarely() ? input.u8() : 4096);
        peer.begin();
        const auto size = ring.take(response);
        peer.end();
        if (!size || !*size)
            continue;
        must(**size == peer.header_read().length && **size <= response.size(), "another size");
        must(std::equal(response.begin(), response.begin() + static_cast<std::ptrdiff_t>(**size),
                        peer.packet_read().begin() + sizeof(tpmif::Header)),
             "an answer of other bytes");
        if (input.rarely())
            (void)ring.cancel();
    }
}

void on_load(const void* address, std::size_t size) {
    if (Peer::the_peer != nullptr)
        Peer::the_peer->load(address, size);
}

}  // namespace

extern "C" {
void __sanitizer_cov_load1(std::uint8_t* address) {
    on_load(address, 1);
}
void __sanitizer_cov_load2(std::uint16_t* address) {
    on_load(address, 2);
}
void __sanitizer_cov_load4(std::uint32_t* address) {
    on_load(address, 4);
}
void __sanitizer_cov_load8(std::uint64_t* address) {
    on_load(address, 8);
}
void __sanitizer_cov_load16(void* address) {
    on_load(address, 16);
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    if (input.rarely()) {
        front_end(input);
    } else {
        back_end(input);
    }
    return 0;
}
}
