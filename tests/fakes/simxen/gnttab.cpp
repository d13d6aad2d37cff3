// libxengnttab.so.1: a granted page is a file, named after who granted it to whom.
extern "C" {
#include <xengnttab.h>
}

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <string>

#include "machine.h"

namespace {

constexpr std::size_t page_size = 4096;
constexpr std::uint32_t first_ref = 8;  // Linux keeps the first eight to itself
constexpr std::uint32_t last_ref = 1U << 20;

std::string grant_file(std::uint32_t owner, std::uint32_t ref, std::uint32_t peer) {
    return simxen::path_of("grants/" + std::to_string(owner) + "." + std::to_string(ref) + ".for" +
                           std::to_string(peer));
}

void* map_file(int fd) {
    void* const memory = ::mmap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    return memory == MAP_FAILED ? nullptr : memory;
}

// The lowest number that is free, so that numbers come again soon, as they do in a real guest.
int create_grant(std::uint32_t owner, std::uint32_t peer, std::uint32_t& ref) {
    for (ref = first_ref; ref < last_ref; ++ref) {
        const int fd = ::open(grant_file(owner, ref, peer).c_str(),
                              O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    errno = ENOSPC;
    return -1;
}

}  // namespace

struct xengntdev_handle {
    std::uint32_t self = simxen::own_domain();
    std::map<void*, std::string> shared;
};

extern "C" {

xengnttab_handle* xengnttab_open(xentoollog_logger*, unsigned) {
    if (simxen::path_of("").empty()) {
        errno = ENOENT;
        return nullptr;
    }
    return new xengntdev_handle;
}

int xengnttab_close(xengnttab_handle* handle) {
    delete handle;
    return 0;
}

int xengnttab_set_max_grants(xengnttab_handle*, uint32_t) {
    return 0;
}

void* xengnttab_map_grant_ref(xengnttab_handle* handle, uint32_t domid, uint32_t ref, int) {
    const int fd = ::open(grant_file(domid, ref, handle->self).c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        errno = EINVAL;
        return nullptr;
    }
    return map_file(fd);
}

int xengnttab_unmap(xengnttab_handle*, void* address, uint32_t count) {
    return ::munmap(address, count * page_size);
}

xengntshr_handle* xengntshr_open(xentoollog_logger* logger, unsigned flags) {
    return xengnttab_open(logger, flags);
}

int xengntshr_close(xengntshr_handle* handle) {
    return xengnttab_close(handle);
}

void* xengntshr_share_pages(xengntshr_handle* handle, uint32_t domid, int count, uint32_t* refs,
                            int) {
    if (count != 1) {
        errno = ENOTSUP;
        return nullptr;
    }
    const int fd = create_grant(handle->self, domid, *refs);
    if (fd < 0)
        return nullptr;
    if (::ftruncate(fd, page_size) != 0) {
        ::close(fd);
        return nullptr;
    }
    void* const memory = map_file(fd);
    if (memory != nullptr)
        handle->shared[memory] = grant_file(handle->self, *refs, domid);
    return memory;
}

int xengntshr_unshare(xengntshr_handle* handle, void* address, uint32_t count) {
    ::unlink(handle->shared[address].c_str());
    handle->shared.erase(address);
    return ::munmap(address, count * page_size);
}

}  // extern "C"
