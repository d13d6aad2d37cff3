#include "vtpm/base/shared_count.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace vtpm {
namespace {

// A file that shrinks below its mapping ends whoever looks.
constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

Result<SharedCount> SharedCount::create() {
    Fd memory(::memfd_create("xen-vtpm-count", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory.valid())
        return fail_errno("memfd_create", errno);
    if (::ftruncate(memory.get(), sizeof(Value)) != 0)
        return fail_errno("ftruncate", errno);
    if (::fcntl(memory.get(), F_ADD_SEALS, seals) != 0)
        return fail_errno("F_ADD_SEALS", errno);
    VTPM_TRY(auto* const value, map(memory.get(), PROT_READ | PROT_WRITE));
    return SharedCount(std::move(memory), value);
}

Result<SharedCount> SharedCount::watch(Fd fd) {
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0)
        return fail_errno("fstat", errno);
    // The kernel may have added some (vm.memfd_noexec).
    const int found = ::fcntl(fd.get(), F_GET_SEALS);
    if (status.st_size != sizeof(Value) || found < 0 || (found & seals) != seals)
        return fail(Errc::malformed, "no count that another process shares");
    VTPM_TRY(auto* const value, map(fd.get(), PROT_READ));
    return SharedCount(Fd(), value);
}

SharedCount::~SharedCount() {
    if (value_ != nullptr)
        ::munmap(value_, sizeof(Value));
}

// A new file is all zeros, which is the number's representation of zero.
Result<SharedCount::Value*> SharedCount::map(int fd, int protection) {
    void* const page = ::mmap(nullptr, sizeof(Value), protection, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return fail_errno("mmap", errno);
    return static_cast<Value*>(page);
}

}  // namespace vtpm
