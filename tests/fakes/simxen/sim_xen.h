// SimXen: the hypervisor and the toolstack of a simulated machine (README.md), with Debian's own
// xenstored. It sets SIMXEN_DIR and XENSTORED_PATH for this process and what it starts, so there is
// one at a time. Problems of its own throw. One thread.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "fakes/simxen/child.h"
#include "vtpm/base/uuid.h"
#include "vtpm/xen/domain_id.h"
#include "vtpm/xen/libxen_store.h"

namespace vtpm::fakes {

class SimXen {
  public:
    explicit SimXen(const std::filesystem::path& directory);

    // "running", "paused", "shutdown REASON", "dying"; from then on the domain exists.
    void set_domain(xen::DomainId domain, const std::string& life);
    void remove_domain(xen::DomainId domain);
    // Xen's migration count of it.
    std::uint32_t incarnation(xen::DomainId domain) const;
    void set_incarnation(xen::DomainId domain, std::uint32_t incarnation);

    // A vtpm device's nodes, as libxl writes them; nothing of what xl waits for.
    void plug(xen::DomainId domain, unsigned device, const Uuid& uuid);
    // What libxl writes to have it removed, and (`force`) when the domain is destroyed.
    void ask_removal(xen::DomainId domain, unsigned device, bool force);
    void delete_nodes(xen::DomainId domain, unsigned device);

    static std::string backend(xen::DomainId domain, unsigned device);
    static std::string frontend(xen::DomainId domain, unsigned device);
    static std::string error_node(xen::DomainId domain, unsigned device);

    std::string read(const std::string& path);  // "" if it is not there
    void write(const std::string& path, const std::string& value);
    bool wait_for(const std::string& path, const std::string& value,
                  std::chrono::milliseconds time = std::chrono::seconds(10));

  private:
    void introduce(xen::DomainId domain);
    void ring_virq();

    std::filesystem::path directory_;
    std::optional<Child> xenstored_;
    std::unique_ptr<xen::LibxenStore> store_;
};

}  // namespace vtpm::fakes
