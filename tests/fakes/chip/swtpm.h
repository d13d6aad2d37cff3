// Swtpm: a real software TPM for tests, a child process of ours on a UNIX socket; and
// SocketTap, which sits on the way to it, listens, and can change or cut what passes.
//
// Both live in a TemporaryDirectory of the test. One thread at a time.
#pragma once

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "vtpm/base/bytes.h"
#include "vtpm/base/fd.h"

namespace vtpm::fakes {

class TemporaryDirectory {
  public:
    TemporaryDirectory() {
        // Short: a socket's path has 107 characters.
        const char* const parent = std::getenv("VTPM_TEST_DIRECTORY");
        std::string name = std::string(parent == nullptr ? "/tmp" : parent) + "/vtpm-XXXXXX";
        if (::mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("mkdtemp");
        path_ = name;
    }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

inline sockaddr_un socket_address(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string text = path.string();
    if (text.size() >= sizeof address.sun_path)
        throw std::runtime_error("socket path too long");
    text.copy(address.sun_path, text.size());
    return address;
}

inline Fd connect_to(const std::filesystem::path& path) {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = socket_address(path);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return {};
    }
    return fd;
}

class Swtpm {
  public:
    // `flags` as in --flags; without startup-clear the chip waits for TPM2_Startup. `options`: what
    // else is on its command line; without --tpm2 it is a TPM 1.2.
    explicit Swtpm(const std::filesystem::path& directory,
                   const std::string& flags = "not-need-init,startup-clear",
                   std::vector<std::string> options = {"--tpm2"})
        : directory_(directory), flags_(flags), options_(std::move(options)) {
        std::filesystem::create_directories(directory_);
        start();
    }
    Swtpm(const Swtpm&) = delete;
    Swtpm& operator=(const Swtpm&) = delete;
    ~Swtpm() { kill(); }

    std::filesystem::path socket() const { return directory_ / "sock"; }
    std::string tcti() const { return "swtpm:path=" + socket().string(); }
    // It answers nothing, or goes on where it was.
    void hang(bool hang) const { ::kill(pid_, hang ? SIGSTOP : SIGCONT); }

    void start() {
        if (pid_ > 0)
            return;
        const std::string state = "dir=" + directory_.string();
        const std::string server = "type=unixio,path=" + socket().string();
        const std::string control = server + ".ctrl";
        const std::string log = "file=" + (directory_ / "log").string();
        std::vector<std::string> words{"swtpm",  "socket", "--tpmstate", state,  "--server", server,
                                       "--ctrl", control,  "--flags",    flags_, "--log",    log};
        words.insert(words.end(), options_.begin(), options_.end());
        std::vector<char*> arguments;
        for (auto& word : words)
            arguments.push_back(word.data());
        arguments.push_back(nullptr);
        std::filesystem::remove(socket());
        if (::posix_spawnp(&pid_, "swtpm", nullptr, nullptr, arguments.data(), environ) != 0) {
            throw std::runtime_error("cannot start swtpm");
        }
        for (int i = 0; i < 500; ++i) {
            if (connect_to(socket()).valid())
                return;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        throw std::runtime_error("swtpm does not listen");
    }

    // As a power cut; what it has not written is gone.
    void kill() {
        if (pid_ <= 0)
            return;
        ::kill(pid_, SIGKILL);
        int status = 0;
        ::waitpid(pid_, &status, 0);
        pid_ = -1;
    }

    void restart() {
        kill();
        start();
    }

  private:
    std::filesystem::path directory_;
    std::string flags_;
    std::vector<std::string> options_;
    pid_t pid_ = -1;
};

// Listens on `socket()` and passes each connection on to the swtpm's data socket.
class SocketTap {
  public:
    // Sees and may change every TPM answer; false: the connection is cut instead.
    using Meddler = std::function<bool(Bytes& command, Bytes& answer)>;

    SocketTap(const std::filesystem::path& directory, const std::filesystem::path& target)
        : path_(directory / "tap"), target_(target) {
        listener_ = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const sockaddr_un address = socket_address(path_);
        if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
                0 ||
            ::listen(listener_.get(), 8) != 0) {
            throw std::runtime_error("cannot listen");
        }
        // tpm2-tss looks for the control socket beside the other; that one is not listened to.
        std::filesystem::create_symlink(target_.string() + ".ctrl", path_.string() + ".ctrl");
        thread_ = std::thread([this] { serve(); });
    }
    SocketTap(const SocketTap&) = delete;
    SocketTap& operator=(const SocketTap&) = delete;
    ~SocketTap() {
        ::shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
    }

    std::string tcti() const { return "swtpm:path=" + path_.string(); }

    Bytes heard() const {
        const std::lock_guard lock(mutex_);
        return heard_;
    }
    void meddle(Meddler meddler) {
        const std::lock_guard lock(mutex_);
        meddler_ = std::move(meddler);
    }

  private:
    // One command or answer; empty at end of file.
    static Bytes message(int fd) {
        Bytes header(10);
        if (!read_exactly(fd, header))
            return {};
        ByteReader reader(header);
        (void)reader.u16();
        const std::uint32_t size = reader.u32().value_or(0);
        if (size < header.size() || size > 8192)
            return {};
        Bytes whole = header;
        whole.resize(size);
        if (!read_exactly(fd, MutableByteView(whole).subspan(header.size())))
            return {};
        return whole;
    }

    void serve() {
        for (;;) {
            const Fd client(::accept(listener_.get(), nullptr, nullptr));
            if (!client.valid())
                return;
            const Fd chip = connect_to(target_);
            if (!chip.valid())
                continue;
            for (;;) {
                Bytes command = message(client.get());
                if (command.empty() || !write_all(chip.get(), command))
                    break;
                Bytes answer = message(chip.get());
                if (answer.empty())
                    break;
                const std::lock_guard lock(mutex_);
                heard_.insert(heard_.end(), command.begin(), command.end());
                heard_.insert(heard_.end(), answer.begin(), answer.end());
                if (meddler_ && !meddler_(command, answer))
                    break;
                if (!write_all(client.get(), answer))
                    break;
            }
        }
    }

    std::filesystem::path path_;
    std::filesystem::path target_;
    Fd listener_;
    std::thread thread_;
    mutable std::mutex mutex_;
    Bytes heard_;
    Meddler meddler_;
};

}  // namespace vtpm::fakes
