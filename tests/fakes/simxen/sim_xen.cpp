#include "fakes/simxen/sim_xen.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "fakes/simxen/event_socket.h"
#include "fakes/simxen/machine.h"
extern "C" {
#include <xenstore.h>
}

namespace vtpm::fakes {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr unsigned domain_exception = 3;  // VIRQ_DOM_EXC
constexpr unsigned store_grant = 1;       // GNTTAB_RESERVED_XENSTORE
constexpr unsigned store_port = 1;
constexpr const char* nobody = "nobody";  // a port's owner who takes no events

void make_page(const fs::path& path) {
    const std::string zeros(4096, '\0');
    std::ofstream(path, std::ios::binary) << zeros;
}

fs::path find_xenstored() {
    for (const auto& entry : fs::directory_iterator("/usr/lib")) {
        const auto program = entry.path() / "bin/xenstored";
        if (entry.path().filename().string().starts_with("xen-") && fs::exists(program))
            return program;
    }
    throw std::runtime_error("no xenstored here; it is in Debian's xen-utils-4.17");
}

template <typename T>
T must(Result<T> result) {
    if (!result)
        throw std::runtime_error(result.error().context);
    return std::move(*result);
}
void must(const Result<void>& result) {
    if (!result)
        throw std::runtime_error(result.error().context);
}

std::string device_path(const std::string& prefix, xen::DomainId domain, unsigned device) {
    return prefix + std::to_string(domain) + "/" + std::to_string(device);
}

}  // namespace

SimXen::SimXen(const fs::path& directory) : directory_(directory) {
    for (const char* part : {"grants", "ports", "sockets", "domains", "xenstored"})
        fs::create_directories(directory_ / part);
    // Dom0's own way to xenstored: a page, and a port that nobody holds.
    make_page(directory_ / "xsd_kva");
    std::ofstream(directory_ / "xsd_port") << "1\n";
    fs::create_symlink(nobody, directory_ / "ports/0.1");
    const std::string socket = directory_ / "xenstored/socket";
    ::setenv("SIMXEN_DIR", directory_.c_str(), 1);
    ::setenv("SIMXEN_DOMID", "0", 1);
    ::setenv("XENSTORED_PATH", socket.c_str(), 1);
    xenstored_.emplace(
        std::vector<std::string>{find_xenstored(), "--no-fork", "--internal-db=on"},
        std::vector<std::string>{
            "XENSTORED_RUNDIR=" + (directory_ / "xenstored").string(),
            std::string("LD_LIBRARY_PATH=") + SIMXEN_LIBRARIES,
            std::string("LD_PRELOAD=") + SIMXEN_LIBRARIES + "/xenstored_preload.so"});
    for (int i = 0; i < 1000 && !store_; ++i) {
        std::this_thread::sleep_for(5ms);
        if (auto store = xen::LibxenStore::open(); store && (*store)->write("/simxen", "1"))
            store_ = std::move(*store);
    }
    if (!store_)
        throw std::runtime_error("xenstored does not answer");
}

void SimXen::set_domain(xen::DomainId domain, const std::string& life) {
    const auto file = directory_ / "domains" / std::to_string(domain);
    const bool known = fs::exists(file);
    // Renamed, so that nobody reads half of it; not a number, so that nobody reads it before.
    const auto fresh = directory_ / "domains/next";
    std::ofstream(fresh) << life << "\n";
    fs::rename(fresh, file);
    if (known)
        ring_virq();
    else
        introduce(domain);
}

std::uint32_t SimXen::incarnation(xen::DomainId domain) const {
    std::uint32_t incarnation = 1;
    std::ifstream(directory_ / "domains" / (std::to_string(domain) + ".incarnation")) >>
        incarnation;
    return incarnation;
}

void SimXen::set_incarnation(xen::DomainId domain, std::uint32_t incarnation) {
    std::ofstream(directory_ / "domains" / (std::to_string(domain) + ".incarnation"))
        << incarnation << "\n";
}

void SimXen::remove_domain(xen::DomainId domain) {
    fs::remove(directory_ / "domains" / std::to_string(domain));
    fs::remove(directory_ / "domains" / (std::to_string(domain) + ".incarnation"));
    ring_virq();
}

// xenstored has to know a domain to tell of its end: by a page and a port that nobody uses.
void SimXen::introduce(xen::DomainId domain) {
    const auto name = std::to_string(domain) + ".";
    make_page(directory_ / "grants" / (name + std::to_string(store_grant) + ".for0"));
    const auto port = directory_ / "ports" / (name + std::to_string(store_port));
    if (!fs::is_symlink(port))
        fs::create_symlink(nobody, port);
    const std::unique_ptr<xs_handle, void (*)(xs_handle*)> handle(::xs_open(0), &::xs_close);
    if (!handle || !::xs_introduce_domain(handle.get(), domain, 0, store_port))
        throw std::runtime_error("xenstored does not take domain " + std::to_string(domain));
}

// What Xen does when a domain has shut down or died; xenstored then fires @releaseDomain.
void SimXen::ring_virq() {
    const auto holder = simxen::link_at("ports/virq" + std::to_string(domain_exception));
    const auto slash = holder.find('/');
    if (slash == std::string::npos)
        throw std::runtime_error("nobody has bound VIRQ_DOM_EXC");
    simxen::EventSocket bell;
    bell.send(holder.substr(0, slash),
              static_cast<std::uint32_t>(std::stoul(holder.substr(slash + 1))));
}

std::string SimXen::backend(xen::DomainId domain, unsigned device) {
    return device_path("/local/domain/0/backend/vtpm/", domain, device);
}

std::string SimXen::frontend(xen::DomainId domain, unsigned device) {
    return "/local/domain/" + std::to_string(domain) + "/device/vtpm/" + std::to_string(device);
}

std::string SimXen::error_node(xen::DomainId domain, unsigned device) {
    return device_path("/local/domain/0/error/backend/vtpm/", domain, device) + "/error";
}

void SimXen::plug(xen::DomainId domain, unsigned device, const Uuid& uuid) {
    const auto own = backend(domain, device);
    const auto front = frontend(domain, device);
    const auto handle = std::to_string(device);
    const std::vector<xen::StoreEntry> nodes = {
        {front + "/backend", own},
        {front + "/backend-id", "0"},
        {front + "/handle", handle},
        {front + "/state", "1"},
        {own + "/frontend", front},
        {own + "/frontend-id", std::to_string(domain)},
        {own + "/online", "1"},
        {own + "/handle", handle},
        {own + "/uuid", uuid.to_string()},
        {own + "/resume", "False"},
        {own + "/state", "1"},
    };
    must(store_->write_together(nodes));
}

void SimXen::ask_removal(xen::DomainId domain, unsigned device, bool force) {
    const auto own = backend(domain, device);
    if (force)
        must(store_->remove(frontend(domain, device)));
    write(own + "/online", "0");
    if (const auto state = read(own + "/state"); state != "6" && !state.empty())
        write(own + "/state", "5");
}

void SimXen::delete_nodes(xen::DomainId domain, unsigned device) {
    must(store_->remove(frontend(domain, device)));
    must(store_->remove(backend(domain, device)));
}

std::string SimXen::read(const std::string& path) {
    return must(store_->read(path)).value_or("");
}

void SimXen::write(const std::string& path, const std::string& value) {
    must(store_->write(path, value));
}

bool SimXen::wait_for(const std::string& path, const std::string& value,
                      std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (read(path) != value) {
        if (std::chrono::steady_clock::now() > end)
            return false;
        std::this_thread::sleep_for(500us);
    }
    return true;
}

}  // namespace vtpm::fakes
