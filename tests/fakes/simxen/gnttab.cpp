// libxengnttab as vtpm-engine uses it, on files: a grant is a page of a file that both sides map.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "place.h"
extern "C" {
#include <xengnttab.h>
}

struct xengntdev_handle {
    int unused;
};

namespace {
constexpr std::size_t page_size = 4096;
}

extern "C" {

xengnttab_handle* xengnttab_open(xentoollog_logger*, unsigned) {
    return static_cast<xengnttab_handle*>(std::calloc(1, sizeof(xengntdev_handle)));
}

int xengnttab_close(xengnttab_handle* handle) {
    std::free(handle);
    return 0;
}

void* xengnttab_map_grant_ref(xengnttab_handle*, uint32_t domain, uint32_t ref, int protection) {
    char path[256];
    if (!simxen::place(path, "grant", domain, ref))
        return nullptr;
    const int file = ::open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return nullptr;
    void* const page = ::mmap(nullptr, page_size, protection, MAP_SHARED, file, 0);
    ::close(file);
    return page == MAP_FAILED ? nullptr : page;
}

int xengnttab_unmap(xengnttab_handle*, void* page, uint32_t count) {
    return ::munmap(page, page_size * count);
}

}  // extern "C"
