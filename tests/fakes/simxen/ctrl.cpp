// libxenctrl.so.4.17, as far as xenstored and vtpmd call it: a domain's life is a word in a file.
#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <map>
#include <string>

#include "machine.h"

extern "C" {
#include <xenctrl.h>
}

namespace {

struct Life {
    std::string state;
    unsigned reason = 0;
};

// Dom0 always runs; the others are what $SIMXEN_DIR/domains says.
std::map<std::uint32_t, Life> all_domains() {
    std::map<std::uint32_t, Life> domains{{0, {"running"}}};
    DIR* const directory = ::opendir(simxen::path_of("domains").c_str());
    if (directory == nullptr)
        return domains;
    while (const dirent* const entry = ::readdir(directory)) {
        const std::string name = entry->d_name;
        if (!std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; }))
            continue;
        std::ifstream file(simxen::path_of("domains/" + name));
        Life life;
        if (file >> life.state) {
            file >> life.reason;
            domains[static_cast<std::uint32_t>(std::stoul(name))] = life;
        }
    }
    ::closedir(directory);
    return domains;
}

std::uint32_t flags_of(const Life& life) {
    if (life.state == "dying")
        return XEN_DOMINF_dying;
    if (life.state == "paused")
        return XEN_DOMINF_paused;
    if (life.state == "shutdown")
        return XEN_DOMINF_shutdown | (life.reason << XEN_DOMINF_shutdownshift);
    return XEN_DOMINF_running;
}

}  // namespace

struct xc_interface_core {};

extern "C" {

xc_interface* xc_interface_open(xentoollog_logger*, xentoollog_logger*, unsigned) {
    if (!simxen::path_of("").empty())
        return new xc_interface_core;
    errno = ENOENT;
    return nullptr;
}

int xc_interface_close(xc_interface* handle) {
    delete handle;
    return 0;
}

int xc_domain_getinfolist(xc_interface*, uint32_t first, unsigned int max, xc_domaininfo_t* infos) {
    unsigned count = 0;
    for (const auto& [domid, life] : all_domains()) {
        if (domid < first || count == max)
            continue;
        auto& info = infos[count++];
        info = {};
        info.domain = static_cast<domid_t>(domid);
        info.flags = flags_of(life);
    }
    return static_cast<int>(count);
}

int xc_domain_getinfo(xc_interface*, uint32_t first, unsigned int max, xc_dominfo_t* infos) {
    unsigned count = 0;
    for (const auto& [domid, life] : all_domains()) {
        if (domid < first || count == max)
            continue;
        auto& info = infos[count++];
        info = {};
        info.domid = domid;
        info.dying = life.state == "dying";
        info.paused = life.state == "paused";
        info.shutdown = life.state == "shutdown";
        info.running = life.state == "running";
        info.shutdown_reason = life.reason;
        info.crashed = info.shutdown && life.reason == SHUTDOWN_crash;
    }
    if (count == 0)
        return -1;
    return static_cast<int>(count);
}

// As Xen counts: one more than it is told, and 1 for a domain that nobody has told it of.
int xc_domain_get_tsc_info(xc_interface*, uint32_t domid, uint32_t* tsc_mode,
                           uint64_t* elapsed_nsec, uint32_t* gtsc_khz, uint32_t* incarnation) {
    if (!all_domains().contains(domid)) {
        errno = ESRCH;
        return -1;
    }
    *tsc_mode = *gtsc_khz = 0;
    *elapsed_nsec = 0;
    *incarnation = 1;
    std::ifstream(simxen::path_of("domains/" + std::to_string(domid) + ".incarnation")) >>
        *incarnation;
    return 0;
}

int xc_domain_set_tsc_info(xc_interface*, uint32_t domid, uint32_t, uint64_t, uint32_t,
                           uint32_t incarnation) {
    std::ofstream(simxen::path_of("domains/" + std::to_string(domid) + ".incarnation"))
        << incarnation + 1 << "\n";
    return 0;
}

}  // extern "C"
