// What the jail lets through in a build for the compiler's sanitizers (tests only), and in no
// other: their runtimes live inside the process that is confined. The only place that knows whether
// this is such a build.
#pragma once

#include <span>

#include "vtpm/jail/syscall_filter.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)  // gcc's
#define VTPM_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)  // clang's
#define VTPM_SANITIZED 1
#endif
#endif

namespace vtpm::jail {

// False in what is shipped. Where true, limit_resources() bounds neither data nor address space: a
// shadow of all memory, terabytes of it that are never touched, is private memory too.
#ifdef VTPM_SANITIZED
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

// What install_filter() adds to every list: nothing unless this is such a build.
std::span<const AllowedCall> calls_of_sanitizers();

}  // namespace vtpm::jail
