// vtpm-engine-drill: vtpm-engine after its guest has conquered it. Not part of any package: it
// acquires and confines itself by the same code (Seat), and then runs an escape instead of a TPM.
#include <algorithm>
#include <array>
#include <cstdlib>

#include "escapes.h"
#include "vtpm/base/log.h"

namespace {
using namespace vtpm;  // NOLINT: a main file
using namespace vtpm::drill;

std::string variable(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? "" : value;
}

const Escape* find(std::string_view name) {
    for (const auto group : {outside(), powers(), resources(), manager(), doorman(), floods()}) {
        for (const auto& escape : group) {
            if (escape.name == name)
                return &escape;
        }
    }
    return nullptr;
}

void tell(xen::SharedPage page, std::string_view outcome) {
    const auto size = static_cast<std::uint8_t>(std::min<std::size_t>(outcome.size(), 255));
    page.copy_out(outcome_offset + 1, as_bytes(outcome).first(size));
    page.copy_out(outcome_offset, std::array{size});
}

}  // namespace

int main(int argc, char** argv) {
    const auto arguments = engine_program::arguments_of(argc, argv);
    log::init("vtpm-engine-drill");
    const Escape* const escape = find(variable(escape_variable));
    if (escape == nullptr)
        return EXIT_FAILURE;
    const bool with_filter = variable(no_filter_variable).empty();
    const int victim = std::atoi(variable(victim_variable).c_str());
    const std::string uuid = variable(uuid_variable);
    const std::string directory = variable(directory_variable);

    engine_program::Seat seat(arguments);
    if (with_filter)
        seat.allow_only_serving();

    Scene scene{seat, victim, uuid, directory};
    tell(seat.page(), escape->run(scene));
    std::_Exit(EXIT_SUCCESS);
}
