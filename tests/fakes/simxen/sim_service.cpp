#include "fakes/simxen/sim_service.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace vtpm::fakes {
namespace {

sockaddr_un address_of(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto text = path.string();
    if (text.size() >= sizeof(address.sun_path))
        throw std::runtime_error("too long for a socket: " + text);
    std::copy(text.begin(), text.end(), std::begin(address.sun_path));
    return address;
}

std::vector<Fd> descriptors_of(msghdr& message) {
    std::vector<Fd> passed;
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
         part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_type != SCM_RIGHTS)
            continue;
        const auto count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        std::vector<int> fds(count);
        std::memcpy(fds.data(), CMSG_DATA(part), count * sizeof(int));
        for (const int fd : fds)
            passed.emplace_back(fd);
    }
    return passed;
}

// Whose vtpmd has died: as its last parent systemd takes it from the kernel's hands at once, and
// nobody else does. Until then it counts against what its uid may have.
void reap_engines() {
    for (const pid_t child : children_of(::getpid())) {
        std::ifstream file("/proc/" + std::to_string(child) + "/comm");
        std::string name;
        if (std::getline(file, name) && name == "vtpm-engine")
            (void)::waitpid(child, nullptr, WNOHANG);
    }
}

}  // namespace

SimService::SimService(std::filesystem::path socket)
    : path_(std::move(socket)), socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const auto address = address_of(path_);
    if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        throw std::runtime_error("cannot bind " + path_.string());
    const timeval turn{0, 20'000};
    (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &turn, sizeof(turn));
    thread_ = std::thread([this] { serve(); });
}

SimService::~SimService() {
    say("END=1");
    thread_.join();
}

void SimService::serve() {
    while (take_message())
        reap_engines();
}

bool SimService::take_message() {
    std::array<char, 4096> text{};
    std::array<char, CMSG_SPACE(16 * sizeof(int))> control{};
    iovec part{text.data(), text.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const auto got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    auto passed = descriptors_of(message);
    std::istringstream lines(std::string(text.data(), static_cast<std::size_t>(got)));
    bool store = false;
    bool remove = false;
    std::string name;
    const std::lock_guard lock(mutex_);
    for (std::string line; std::getline(lines, line);) {
        store = store || line == "FDSTORE=1";
        remove = remove || line == "FDSTOREREMOVE=1";
        if (line.starts_with("FDNAME="))
            name = line.substr(7);
        ready_ = ready_ || line == "READY=1";
        if (line == "END=1")
            return false;
        if (line == "SETTLED=1") {
            ++answered_;
            settled_.notify_all();
        }
    }
    // The newest first, as systemd passes them.
    for (auto& fd : passed) {
        if (store)
            kept_.insert(kept_.begin(), Kept{name, std::move(fd)});
    }
    if (remove)
        std::erase_if(kept_, [&](const Kept& kept) { return kept.name == name; });
    return true;
}

void SimService::say(const std::string& text) {
    const auto address = address_of(path_);
    const Fd end(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (::sendto(end.get(), text.data(), text.size(), 0,
                 reinterpret_cast<const sockaddr*>(&address), sizeof(address)) < 0)
        throw std::runtime_error("cannot write to " + path_.string());
}

void SimService::settle() {
    std::unique_lock lock(mutex_);
    const unsigned mine = ++asked_;
    lock.unlock();
    say("SETTLED=1");
    lock.lock();
    settled_.wait(lock, [&] { return answered_ >= mine; });
}

std::unique_ptr<Child> SimService::start(const std::vector<std::string>& words,
                                         std::vector<std::string> environment) {
    settle();
    const std::lock_guard lock(mutex_);
    ready_ = false;
    std::vector<std::string> line = {"/bin/sh", "-c", "export LISTEN_PID=$$; exec \"$@\"", "sh"};
    line.insert(line.end(), words.begin(), words.end());
    environment.push_back("NOTIFY_SOCKET=" + path_.string());
    std::vector<int> descriptors;
    std::string names;
    for (const auto& kept : kept_) {
        names += (names.empty() ? "" : ":") + kept.name;
        descriptors.push_back(kept.fd.get());
    }
    environment.push_back("LISTEN_FDS=" + std::to_string(descriptors.size()));
    environment.push_back("LISTEN_FDNAMES=" + names);
    return std::make_unique<Child>(line, environment, descriptors);
}

bool SimService::ready() {
    for (int i = 0; i < 10000; ++i) {
        {
            const std::lock_guard lock(mutex_);
            if (ready_)
                return true;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
}

void SimService::forget() {
    settle();
    const std::lock_guard lock(mutex_);
    kept_.clear();
}

std::vector<std::string> SimService::names() {
    settle();
    const std::lock_guard lock(mutex_);
    std::vector<std::string> names;
    for (const auto& kept : kept_)
        names.push_back(kept.name);
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace vtpm::fakes
