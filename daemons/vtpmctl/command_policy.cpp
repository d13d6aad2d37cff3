#include "command_policy.h"

#include <algorithm>
#include <iostream>

#include "command_names.h"
#include "presentation.h"
#include "vtpm/tpm/command_policy.h"

namespace vtpm::control {
namespace {

using wire::proto::Instance;
using wire::proto::Request;
using Policy = wire::proto::CommandPolicy;

std::uint32_t localities_of(const Policy& policy) {
    return policy.localities() != 0 ? policy.localities()
                                    : std::uint32_t{tpm::CommandPolicy::possible_localities};
}

std::vector<int> allowed_localities(const Policy& policy) {
    std::vector<int> out;
    for (int locality = 0; locality < 8; ++locality) {
        if ((localities_of(policy) >> locality & 1U) != 0)
            out.push_back(locality);
    }
    return out;
}

Result<void> deny(tpm::Version version, const PolicyOptions& options, Policy& policy) {
    std::vector<std::uint32_t> denied(policy.denied().begin(), policy.denied().end());
    for (const std::string& text : options.deny) {
        VTPM_TRY(const std::uint32_t code, command_code(version, text));
        denied.push_back(code);
    }
    for (const std::string& text : options.permit) {
        VTPM_TRY(const std::uint32_t code, command_code(version, text));
        std::erase(denied, code);
    }
    std::sort(denied.begin(), denied.end());
    denied.erase(std::unique(denied.begin(), denied.end()), denied.end());
    policy.mutable_denied()->Assign(denied.begin(), denied.end());
    return {};
}

Result<Policy> changed(const Instance& instance, const PolicyOptions& options) {
    VTPM_TRY(const auto version, tpm::version_from_number(instance.tpm()));
    Policy policy = instance.policy();
    VTPM_CHECK(deny(version, options, policy));
    std::uint32_t localities = 0;
    for (const std::uint8_t locality : options.localities)
        localities |= std::uint32_t{1} << locality;
    if (localities != 0)
        policy.set_localities(localities);
    policy.set_vendor(options.vendor.value_or(policy.vendor()));
    policy.set_maintenance(options.maintenance.value_or(policy.maintenance()));
    return policy;
}

bool changes_something(const PolicyOptions& options) {
    return !options.deny.empty() || !options.permit.empty() || !options.localities.empty() ||
           options.vendor || options.maintenance;
}

void print_policy(const Instance& instance, tpm::Version version, Output output) {
    const Policy& policy = instance.policy();
    nlohmann::json json = {
        {"name", instance.name()},           {"uuid", uuid_text(instance.uuid())},
        {"denied", nlohmann::json::array()}, {"localities", allowed_localities(policy)},
        {"vendor", policy.vendor()},         {"maintenance", policy.maintenance()}};
    for (const std::uint32_t code : policy.denied())
        json["denied"].push_back(command_name(version, code));
    if (output.json)
        return print_json(json);
    std::string localities;
    for (const int locality : allowed_localities(policy))
        localities += (localities.empty() ? "" : ", ") + std::to_string(locality);
    std::cout << line("localities", localities)
              << line("vendor", policy.vendor() ? "vendor commands are executed" : "refused")
              << line("maintenance",
                      policy.maintenance() ? "such commands are executed" : "refused")
              << line("denied", json["denied"].empty() ? "nothing else" : "");
    for (const auto& name : json["denied"])
        std::cout << "    " << name.get<std::string>() << "\n";
}

}  // namespace

Result<void> policy(ManagerConnection& manager, const std::string& selector,
                    const PolicyOptions& options, Output output) {
    Request show;
    show.mutable_show()->set_selector(selector);
    VTPM_TRY(const auto found, manager.ask(show));
    Instance instance = found.message.instance();
    VTPM_TRY(const auto version, tpm::version_from_number(instance.tpm()));
    if (changes_something(options)) {
        Request request;
        request.mutable_set_policy()->set_selector(uuid_text(instance.uuid()));
        VTPM_TRY(*request.mutable_set_policy()->mutable_policy(), changed(instance, options));
        VTPM_TRY(const auto answer, manager.ask(request));
        instance = answer.message.instance();
        if (instance.in_use() && !output.json)
            std::cerr << "it applies from the guest's next start on\n";
    }
    print_policy(instance, version, output);
    return {};
}

}  // namespace vtpm::control
