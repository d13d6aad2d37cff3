#include "fakes/simxen/sim_guest.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "fakes/simxen/machine.h"

namespace vtpm::fakes {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr unsigned device = 0;
constexpr auto libxl_patience = 10s;  // LIBXL_INIT_TIMEOUT, and its wait for a removal
constexpr auto answer_time = 60s;     // an engine waits 30 s for its manager

// While it lives, handles that this process opens are those of another domain.
class As {
  public:
    explicit As(xen::DomainId domain) {
        ::setenv("SIMXEN_DOMID", std::to_string(domain).c_str(), 1);
    }
    As(const As&) = delete;
    As& operator=(const As&) = delete;
    ~As() { ::setenv("SIMXEN_DOMID", "0", 1); }
};

std::unique_ptr<xen::LibxenStore> open_store() {
    auto store = xen::LibxenStore::open();
    if (!store)
        throw std::runtime_error(store.error().context);
    return std::move(*store);
}

}  // namespace

Result<xen::GrantedPage> GuestHands::share(xen::DomainId peer) {
    const As guest(domain_);
    VTPM_TRY(auto granted, xen::LibxenGrantShare().share(peer));
    if (new_numbers_ && granted.ref == last_ref_) {
        VTPM_TRY(auto other, xen::LibxenGrantShare().share(peer));
        granted = std::move(other);
    }
    last_ref_ = granted.ref;
    const auto name = "grants/" + std::to_string(domain_) + "." + std::to_string(granted.ref) +
                      ".for" + std::to_string(peer);
    const Fd file(::open(simxen::path_of(name).c_str(), O_RDWR | O_CLOEXEC));
    void* const page =
        ::mmap(nullptr, xen::tpmif::page_size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (page == MAP_FAILED)
        return fail_errno("mapping our own page", errno);
    forget_page();
    raw_ = static_cast<std::uint8_t*>(page);
    return granted;
}

void GuestHands::forget_page() {
    if (raw_ != nullptr)
        ::munmap(raw_, xen::tpmif::page_size);
    raw_ = nullptr;
}

Result<xen::OpenPort> GuestHands::open(xen::DomainId peer) {
    const As guest(domain_);
    VTPM_TRY(auto port, xen::LibxenEventPorts().open(peer));
    events_ = port.channel.get();
    return port;
}

SimGuest::SimGuest(SimHost& host, xen::DomainId domain, const Uuid& uuid)
    : host_(host),
      domain_(domain),
      uuid_(uuid),
      hands_(domain),
      store_(open_store()),
      front_(*store_, hands_, hands_, SimXen::frontend(domain, device)) {}

// vtpmd's engine is a grandchild of ours, which a plain SIGKILL of vtpmd might leave behind.
SimGuest::~SimGuest() {
    if (!vtpmd_ || !vtpmd_->running())
        return;
    vtpmd_->terminate();
    (void)vtpmd_->wait(libxl_patience);
}

bool SimGuest::boot() {
    plug();
    start_vtpmd();
    return announced() && connect();
}

void SimGuest::plug() {
    host_.xen().set_domain(domain_, "paused");
    if (file_)
        host_.xen().set_incarnation(domain_, *file_ + 1);
    host_.xen().plug(domain_, device, uuid_);
}

void SimGuest::start_vtpmd(const std::vector<std::string>& under) {
    auto words = host_.doorman_command(std::to_string(domain_) + "-" + std::to_string(device));
    words.insert(words.begin(), under.begin(), under.end());
    vtpmd_.reset();  // reaped, if it was killed
    vtpmd_ = service_ ? service_->start(words, SimHost::environment())
                      : std::make_unique<Child>(words, SimHost::environment());
}

void SimGuest::serve_as_unit() {
    hands_.take_new_numbers();
    service_ =
        std::make_unique<SimService>(host_.directory() / ("notify" + std::to_string(domain_)));
}

bool SimGuest::announced() {
    const auto end = Clock::now() + libxl_patience;
    while (Clock::now() < end) {
        if (state() == "2")
            return true;
        if (!refusal().empty())
            return false;
        std::this_thread::sleep_for(500us);
    }
    return false;
}

bool SimGuest::connect() {
    host_.xen().set_domain(domain_, "running");
    return front_.connect(15s).has_value();
}

bool SimGuest::offer() {
    host_.xen().set_domain(domain_, "running");
    return front_.offer().has_value();
}

std::string SimGuest::refusal() {
    return host_.xen().read(SimXen::error_node(domain_, device));
}

std::string SimGuest::state() {
    return host_.xen().read(SimXen::backend(domain_, device) + "/state");
}

bool SimGuest::removed(bool force) {
    auto& xen = host_.xen();
    xen.ask_removal(domain_, device, force);
    const bool closed =
        xen.wait_for(SimXen::backend(domain_, device) + "/state", "6", libxl_patience);
    xen.delete_nodes(domain_, device);
    return closed;
}

bool SimGuest::destroy() {
    host_.xen().set_domain(domain_, "paused");
    const bool closed = removed(true);
    host_.xen().set_domain(domain_, "dying");
    host_.xen().remove_domain(domain_);
    return closed && vtpmd_->wait(libxl_patience) == 0;
}

bool SimGuest::power_off(bool orderly) {
    if (orderly && !front_.close(5s))
        return false;
    host_.xen().set_domain(domain_, "shutdown 0");
    const bool closed = removed(true);
    host_.xen().remove_domain(domain_);
    return closed && vtpmd_->wait(libxl_patience) == 0;
}

// Linux leaves its ring as it is.
std::uint32_t SimGuest::save() {
    const auto file = host_.xen().incarnation(domain_);
    host_.xen().set_domain(domain_, "shutdown 2");
    const bool closed = removed(true);
    host_.xen().remove_domain(domain_);
    return closed && vtpmd_->wait(libxl_patience) == 0 ? file : 0;
}

std::uint32_t SimGuest::save_and_go_on() {
    host_.xen().set_domain(domain_, "shutdown 2");
    std::this_thread::sleep_for(300ms);  // while xl writes the file
    host_.xen().set_domain(domain_, "running");
    std::this_thread::sleep_for(500ms);
    return host_.xen().incarnation(domain_);
}

Bytes transmit(xen::FrontRing& ring, ByteView command, bool spin) {
    Bytes answer(xen::tpmif::max_packet);
    Result<std::size_t> size = fail(Errc::timeout, "no answer");
    if (!spin) {
        size = ring.transmit(command, 0, answer, answer_time);
    } else if (ring.submit(command, 0)) {
        const auto end = Clock::now() + answer_time;
        for (unsigned looks = 1;; ++looks) {
            const auto taken = ring.take(answer);
            if (!taken || *taken) {
                if (taken)
                    size = **taken;
                break;
            }
            if (looks % 1024 == 0 && Clock::now() > end)
                break;
        }
    }
    answer.resize(size.value_or(0));
    return answer;
}

pid_t SimGuest::engine_pid() const {
    auto engines = children_of(vtpmd_->pid());
    const auto mine = std::string("--domain\0", 9) + std::to_string(domain_) + '\0';
    for (const pid_t orphan : children_of(::getpid())) {
        std::ifstream file("/proc/" + std::to_string(orphan) + "/cmdline");
        const std::string words((std::istreambuf_iterator<char>(file)), {});
        if (words.find(mine) != std::string::npos)
            engines.push_back(orphan);
    }
    return engines.size() == 1 ? engines.front() : -1;
}

}  // namespace vtpm::fakes
