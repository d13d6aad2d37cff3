#include "vtpm/jail/syscall_filter.h"

#include <seccomp.h>

#include <array>
#include <memory>
#include <string>

#include "vtpm/jail/sanitizer.h"

namespace vtpm::jail {
namespace {

using Context = std::unique_ptr<void, decltype(&seccomp_release)>;

scmp_arg_cmp compare(const ArgumentMatch& match) {
    return {match.index, SCMP_CMP_MASKED_EQ, match.mask, match.value};
}

Result<void> allow(scmp_filter_ctx context, const AllowedCall& call) {
    const int number = seccomp_syscall_resolve_name(std::string(call.name).c_str());
    if (number == __NR_SCMP_ERROR) {
        return fail(Errc::invalid_argument, "unknown system call " + std::string(call.name));
    }
    std::array<scmp_arg_cmp, 2> matches{};
    unsigned count = 0;
    if (call.first)
        matches[count++] = compare(*call.first);
    if (call.second)
        matches[count++] = compare(*call.second);
    const int added =
        seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, count, matches.data());
    if (added < 0)
        return fail_errno("seccomp rule for " + std::string(call.name), -added);
    return {};
}

}  // namespace

Result<void> install_filter(std::span<const AllowedCall> calls) {
    const Context context(seccomp_init(SCMP_ACT_KILL_PROCESS), &seccomp_release);
    if (!context)
        return fail(Errc::io, "seccomp_init failed");
    // One filter for all threads; a foreign architecture's calls die like any other unlisted one.
    if (const int set = seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_TSYNC, 1); set < 0) {
        return fail_errno("seccomp TSYNC", -set);
    }
    if (const int set =
            seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
        set < 0) {
        return fail_errno("seccomp BADARCH", -set);
    }
    for (const auto& call : calls)
        VTPM_CHECK(allow(context.get(), call));
    for (const auto& call : calls_of_sanitizers())
        VTPM_CHECK(allow(context.get(), call));
    if (const int loaded = seccomp_load(context.get()); loaded < 0) {
        return fail_errno("seccomp_load", -loaded);
    }
    return {};
}

}  // namespace vtpm::jail
