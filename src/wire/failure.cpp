#include "vtpm/wire/failure.h"

#include <algorithm>
#include <array>

namespace vtpm::wire {
namespace {

constexpr std::array all_codes = {
    Errc::invalid_argument, Errc::malformed,  Errc::too_large,    Errc::not_found,
    Errc::already_exists,   Errc::in_use,     Errc::permission,   Errc::unavailable,
    Errc::not_set_up,       Errc::locked,     Errc::not_approved, Errc::latched,
    Errc::wrong_chip,       Errc::wrong_cell, Errc::rolled_back,  Errc::corrupt,
    Errc::out_of_order,     Errc::io,         Errc::timeout,      Errc::chip,
    Errc::unsupported,
};
constexpr std::array all_actions = {
    NextAction::refuse,       NextAction::retry, NextAction::retry_later,
    NextAction::ask_operator, NextAction::stop,
};

template <typename List>
auto by_name(const List& list, std::string_view name, typename List::value_type otherwise) {
    for (const auto value : list) {
        if (to_string(value) == name)
            return value;
    }
    return otherwise;
}

}  // namespace

std::string printable(std::string_view text) {
    constexpr std::size_t limit = 4096;
    std::string out(text.substr(0, limit));
    std::replace_if(
        out.begin(), out.end(), [](char c) { return c < ' ' || c >= 0x7f; }, '?');
    return out;
}

proto::Failure to_message(const Error& error) {
    proto::Failure failure;
    failure.set_code(std::string(to_string(error.code)));
    failure.set_next(std::string(to_string(error.next)));
    failure.set_context(printable(error.context));
    return failure;
}

Error to_error(const proto::Failure& failure) {
    return Error{by_name(all_codes, failure.code(), Errc::unsupported),
                 by_name(all_actions, failure.next(), NextAction::refuse), failure.context()};
}

}  // namespace vtpm::wire
