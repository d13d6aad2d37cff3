#include "confinement.h"

#include <signal.h>

#include <vector>

#include "vtpm/base/start.h"
#include "vtpm/engine/libtpms_engine.h"
#include "vtpm/jail/confine.h"
#include "vtpm/jail/harden.h"

namespace vtpm::engine_program {
namespace {

// Measured: a 2.0 TPM at work needs under 3 MiB beyond the libraries; the rest is room for RSA.
constexpr std::size_t data_limit = 64UL * 1024 * 1024;

}  // namespace

void confine(std::uint32_t uid, std::span<const int> more) {
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGXFSZ, SIG_IGN);
    engine::LibtpmsEngine::warm_up();
    required(jail::lock_memory());
    std::vector<int> keep = {doorman_fd, manager_fd};
    keep.insert(keep.end(), more.begin(), more.end());
    required(jail::close_descriptors_except(keep));
    required(jail::empty_namespaces());
    required(jail::limit_resources(data_limit));
    required(jail::become_user(uid, uid));
    required(jail::forbid_core_dumps());
    required(jail::forbid_new_privileges());
}

}  // namespace vtpm::engine_program
