// For main() only: what a program cannot start without.
#pragma once

#include <cstdlib>
#include <type_traits>

#include "vtpm/base/log.h"
#include "vtpm/base/result.h"

namespace vtpm {

// The value, or a log line and the end of the process.
template <typename T>
T required(Result<T> result) {
    if (!result) {
        spdlog::critical("cannot start: {}", result.error().context);
        std::exit(EXIT_FAILURE);
    }
    if constexpr (!std::is_void_v<T>)
        return std::move(*result);
}

}  // namespace vtpm
