#include "vtpm/base/result.h"

#include <system_error>

namespace vtpm {

Error Error::within(std::string_view what) && {
    context = std::string(what) + ": " + context;
    return std::move(*this);
}

std::string_view to_string(Errc code) {
    switch (code) {
        case Errc::invalid_argument:
            return "invalid-argument";
        case Errc::malformed:
            return "malformed";
        case Errc::too_large:
            return "too-large";
        case Errc::not_found:
            return "not-found";
        case Errc::already_exists:
            return "already-exists";
        case Errc::in_use:
            return "in-use";
        case Errc::permission:
            return "permission";
        case Errc::unavailable:
            return "unavailable";
        case Errc::not_set_up:
            return "not-set-up";
        case Errc::locked:
            return "locked";
        case Errc::not_approved:
            return "not-approved";
        case Errc::latched:
            return "latched";
        case Errc::wrong_chip:
            return "wrong-chip";
        case Errc::wrong_cell:
            return "wrong-cell";
        case Errc::rolled_back:
            return "rolled-back";
        case Errc::corrupt:
            return "corrupt";
        case Errc::out_of_order:
            return "out-of-order";
        case Errc::io:
            return "io";
        case Errc::timeout:
            return "timeout";
        case Errc::chip:
            return "chip";
        case Errc::unsupported:
            return "unsupported";
    }
    return "unknown";
}

std::string_view to_string(NextAction next) {
    switch (next) {
        case NextAction::refuse:
            return "refuse";
        case NextAction::retry:
            return "retry";
        case NextAction::retry_later:
            return "retry-later";
        case NextAction::ask_operator:
            return "ask-operator";
        case NextAction::stop:
            return "stop";
    }
    return "unknown";
}

NextAction usual_next_action(Errc code) {
    switch (code) {
        case Errc::in_use:
        case Errc::unavailable:
        case Errc::timeout:
        case Errc::io:
        case Errc::chip:
            return NextAction::retry_later;
        case Errc::not_set_up:
        case Errc::locked:
        case Errc::not_approved:
        case Errc::latched:
        case Errc::wrong_chip:
        case Errc::wrong_cell:
        case Errc::rolled_back:
        case Errc::corrupt:
            return NextAction::ask_operator;
        case Errc::out_of_order:
            return NextAction::stop;
        default:
            return NextAction::refuse;
    }
}

tl::unexpected<Error> fail(Errc code, std::string context) {
    return fail(code, usual_next_action(code), std::move(context));
}

tl::unexpected<Error> fail(Errc code, NextAction next, std::string context) {
    return tl::unexpected<Error>(Error{code, next, std::move(context)});
}

tl::unexpected<Error> fail_errno(std::string_view what, int error_number) {
    return fail(Errc::io, std::string(what) + ": " + std::generic_category().message(error_number));
}

}  // namespace vtpm
