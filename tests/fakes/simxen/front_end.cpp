#include "fakes/simxen/front_end.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <stdexcept>

#include "fakes/chip/swtpm.h"

namespace vtpm::fakes {
namespace {

constexpr std::uint32_t ring_ref = 8;  // the numbers of a real first grant and port, more or less
constexpr std::uint32_t event_port = 15;
constexpr std::chrono::seconds answer_time{30};

std::string name(const char* kind, xen::DomainId domain, std::uint32_t number) {
    return std::string(kind) + "-" + std::to_string(domain) + "-" + std::to_string(number);
}

std::uint8_t* make_page(const std::filesystem::path& path) {
    const Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file.valid() || ::ftruncate(file.get(), xen::tpmif::page_size) != 0)
        throw std::runtime_error("cannot make " + path.string());
    void* const page =
        ::mmap(nullptr, xen::tpmif::page_size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (page == MAP_FAILED)
        throw std::runtime_error("mmap");
    return static_cast<std::uint8_t*>(page);
}

void watch(int epoll, int fd) {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    wanted.data.fd = fd;
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wanted) != 0)
        throw std::runtime_error("epoll_ctl");
}

}  // namespace

SimEventPort::SimEventPort(const std::filesystem::path& socket)
    : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)),
      either_(::epoll_create1(EPOLL_CLOEXEC)) {
    const sockaddr_un address = socket_address(socket);
    if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 4) != 0) {
        throw std::runtime_error("cannot listen on " + socket.string());
    }
    watch(either_.get(), listener_.get());
}

// Xen makes an event pending for whoever binds: what was sent before must not be lost.
bool SimEventPort::take_peer() {
    Fd fresh(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fresh.valid())
        return false;
    peer_ = std::move(fresh);
    watch(either_.get(), peer_.get());
    (void)!::write(peer_.get(), "", 1);
    return true;
}

Result<void> SimEventPort::notify() {
    if (peer_.valid()) {
        if (::send(peer_.get(), "", 1, MSG_NOSIGNAL) == 1 || errno == EAGAIN)
            return {};
        peer_.reset();
    }
    take_peer();  // nobody there: the event waits, as on an unbound port
    return {};
}

Result<void> SimEventPort::consume() {
    std::array<std::uint8_t, 256> events{};
    if (peer_.valid()) {
        const auto size = ::read(peer_.get(), events.data(), events.size());
        if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR))
            peer_.reset();
        if (size > 0)
            return {};
    }
    take_peer();
    return {};
}

FrontEnd::FrontEnd(const std::filesystem::path& directory, xen::DomainId domain)
    : address_{domain, ring_ref, event_port},
      raw_(make_page(directory / name("grant", domain, ring_ref))),
      page_(raw_, [](void* page) { ::munmap(page, xen::tpmif::page_size); }),
      events_(directory / name("port", domain, event_port)),
      ring_(page_.page(), events_) {}

Bytes FrontEnd::transmit(ByteView command, bool spin) {
    Bytes answer(xen::tpmif::max_packet);
    Result<std::size_t> size = fail(Errc::timeout, "no answer");
    if (!spin) {
        size = ring_.transmit(command, 0, answer, answer_time);
    } else if (ring_.submit(command, 0)) {
        const auto end = std::chrono::steady_clock::now() + answer_time;
        for (unsigned looks = 1;; ++looks) {
            const auto taken = ring_.take(answer);
            if (!taken || *taken) {
                if (taken)
                    size = **taken;
                break;
            }
            if (looks % 1024 == 0 && std::chrono::steady_clock::now() > end)
                break;
        }
    }
    answer.resize(size.value_or(0));
    return answer;
}

}  // namespace vtpm::fakes
