// Result<T>: a value, or an Error that says what happened and what its reader should do next.
//
// Used for everything that a guest, a peer, a disk or a chip can cause. Exceptions are for failing
// to start. Values are copyable, belong to whoever holds them, and are free of threads.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace vtpm {

enum class Errc {
    invalid_argument,  // the caller asked for something that cannot be
    malformed,         // bytes from outside do not parse
    too_large,         // a bound was exceeded
    not_found,
    already_exists,
    in_use,        // somebody else holds it
    permission,    // the peer may not
    unavailable,   // the other side is not there now
    not_set_up,    // the host has not been made ready (vtpmctl setup)
    locked,        // the chip does not give out the keys on this boot
    not_approved,  // this boot is not one that an approver signed
    latched,       // the chip gives the keys no more before it is reset
    wrong_chip,    // this is not the chip the vault was set up with
    wrong_cell,    // the chip's commit cell is lost, or not the one of the set-up
    rolled_back,   // stored data verifies, but the chip remembers a newer state
    corrupt,       // stored data does not verify
    out_of_order,  // a sequence number is not the next one
    io,
    timeout,
    chip,  // the chip answered with an error
    unsupported,
};

// What a reader of the error should do; printed by vtpmctl, followed by the daemons.
enum class NextAction {
    refuse,        // do not repeat the request as it is
    retry,         // the same request may succeed at once
    retry_later,   // the same request may succeed when a cause outside is gone
    ask_operator,  // a person has to decide
    stop,          // going on would do harm
};

struct Error {
    Errc code;
    NextAction next;
    std::string context;  // for people; never holds secret bytes or a guest's bytes

    // The same error, seen from further out: "WHAT: context".
    Error within(std::string_view what) &&;
};

std::string_view to_string(Errc code);
std::string_view to_string(NextAction next);

template <typename T>
using Result = tl::expected<T, Error>;

// The action that fits a code when nothing more is known.
NextAction usual_next_action(Errc code);

// Makes the error branch of a Result: return fail(Errc::io, "...").
tl::unexpected<Error> fail(Errc code, std::string context);
tl::unexpected<Error> fail(Errc code, NextAction next, std::string context);

// Errc::io with "WHAT: strerror(error_number)".
tl::unexpected<Error> fail_errno(std::string_view what, int error_number);

}  // namespace vtpm

// VTPM_TRY(declaration, expression): unwraps a Result or returns its error from this function.
#define VTPM_TRY_CONCAT_(a, b) a##b
#define VTPM_TRY_NAME_(a, b) VTPM_TRY_CONCAT_(a, b)
#define VTPM_TRY_IMPL_(tmp, declaration, expression)        \
    auto tmp = (expression);                                \
    if (!tmp)                                               \
        return tl::make_unexpected(std::move(tmp).error()); \
    declaration = std::move(*tmp)
#define VTPM_TRY(declaration, expression) \
    VTPM_TRY_IMPL_(VTPM_TRY_NAME_(vtpm_try_, __LINE__), declaration, expression)

// VTPM_CHECK(expression): returns the error of a Result<void> from this function.
#define VTPM_CHECK(expression)                         \
    if (auto vtpm_check_ = (expression); !vtpm_check_) \
    return tl::make_unexpected(std::move(vtpm_check_).error())
