#include "group_commands.h"

#include <iostream>

#include "policy_presentation.h"
#include "presentation.h"

namespace vtpm::control {
namespace {

using wire::proto::Group;
using wire::proto::Request;

void print(const Group& group, const std::string& what_happened, Output output) {
    if (output.json)
        return print_json(to_json(group));
    std::cout << what_happened << describe(group);
}

}  // namespace

Result<std::vector<Group>> groups_of(ManagerConnection& manager) {
    Request request;
    request.mutable_group_list();
    VTPM_TRY(const auto answer, manager.ask(request));
    const auto& groups = answer.message.groups().group();
    return std::vector<Group>(groups.begin(), groups.end());
}

Result<void> group_create(ManagerConnection& manager, const std::string& name,
                          const ApproverOptions& approver, Output output) {
    Request request;
    request.mutable_group_create()->set_name(name);
    VTPM_CHECK(fill(*request.mutable_group_create()->mutable_approver(), approver));
    VTPM_TRY(const auto answer, manager.ask(request));
    print(answer.message.group(), "", output);
    if (!output.json && !approver.key.empty()) {
        std::cout
            << "Next, or it stays closed at the next start: vtpmctl approve this-boot --group "
            << answer.message.group().name() << "\n";
    }
    return {};
}

Result<void> group_list(ManagerConnection& manager, Output output) {
    VTPM_TRY(const auto groups, groups_of(manager));
    if (!output.json) {
        std::cout << table(groups);
        return {};
    }
    auto json = nlohmann::json::array();
    for (const auto& group : groups)
        json.push_back(to_json(group));
    print_json(json);
    return {};
}

Result<void> group_show(ManagerConnection& manager, const std::string& selector, Output output) {
    VTPM_TRY(const auto groups, groups_of(manager));
    const auto uuid = Uuid::parse(selector);
    for (const auto& group : groups) {
        if (uuid ? uuid_text(group.uuid()) == uuid->to_string() : group.name() == selector) {
            print(group, "", output);
            return {};
        }
    }
    return fail(Errc::not_found, "no group has that name or uuid; see: vtpmctl group list");
}

Result<void> group_open(ManagerConnection& manager, const std::string& selector, Output output) {
    Request request;
    request.mutable_group_open()->set_group(selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    print(answer.message.group(), "", output);
    return {};
}

Result<void> group_close(ManagerConnection& manager, const std::string& selector, Output output) {
    Request request;
    request.mutable_group_close()->set_group(selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    print(answer.message.group(), "", output);
    return {};
}

Result<void> group_delete(ManagerConnection& manager, const std::string& selector, Output output) {
    Request request;
    request.mutable_group_remove()->set_group(selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    const Group& group = answer.message.group();
    if (output.json) {
        print_json(to_json(group));
    } else {
        std::cout << "deleted group " << group.name() << " (" << uuid_text(group.uuid())
                  << "); its key is destroyed\n";
    }
    return {};
}

Result<void> rotate(ManagerConnection& manager, const RotateOptions& options, Output output) {
    Request request;
    auto& rotate = *request.mutable_rotate();
    if (options.root) {
        rotate.set_root(true);
    } else if (!options.group.empty()) {
        rotate.set_group(options.group);
    } else {
        rotate.set_instance(options.instance);
    }
    VTPM_TRY(const auto answer, manager.ask(request));
    if (answer.message.has_instance()) {
        if (output.json) {
            print_json(to_json(answer.message.instance()));
        } else {
            std::cout << "A new key, and all that was stored is encrypted anew:\n"
                      << describe(answer.message.instance());
        }
    } else if (answer.message.has_group()) {
        print(answer.message.group(), "A new key, which the keys of its TPMs are under now:\n",
              output);
    } else if (output.json) {
        print_json({{"rotated", "root"}});
    } else {
        std::cout << "The vault has a new root key.\n";
    }
    return {};
}

}  // namespace vtpm::control
