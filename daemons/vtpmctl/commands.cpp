#include "commands.h"

#include <algorithm>
#include <iostream>

#include "policy_presentation.h"
#include "presentation.h"
#include "vtpm/tpm/factory.h"

namespace vtpm::control {
namespace {

using wire::proto::Instance;
using wire::proto::Request;

void print(const Instance& instance, Output output) {
    if (output.json)
        return print_json(to_json(instance));
    std::cout << describe(instance);
}

// What people call an instance's group; empty if that cannot be known now.
std::string group_name(ManagerConnection& manager, const Instance& instance) {
    Request request;
    request.mutable_group_list();
    const auto answer = manager.ask(request);
    if (!answer)
        return "";
    for (const auto& group : answer->message.groups().group()) {
        if (group.uuid() == instance.group())
            return group.name();
    }
    return "";
}

}  // namespace

int exit_code(const Error& error) {
    switch (error.code) {
        case Errc::unavailable:
        case Errc::timeout:
            return 3;
        case Errc::locked:
        case Errc::not_approved:
        case Errc::latched:
        case Errc::not_set_up:
        case Errc::chip:
        case Errc::wrong_chip:
        case Errc::wrong_cell:
        case Errc::rolled_back:
            return 4;
        case Errc::not_found:
            return 5;
        case Errc::in_use:
            return 6;
        default:
            return 1;
    }
}

std::string advice(const Error& error) {
    switch (error.code) {
        case Errc::unavailable:
            return "try: systemctl start vtpmmgrd.socket; then: vtpmctl doctor";
        case Errc::permission:
            return "run it as root";
        case Errc::locked:
            return "see: vtpmctl status; nothing was changed";
        case Errc::not_approved:
            return "nothing was changed. Boot what was approved, or have this boot approved: "
                   "vtpmctl approve this-boot. If the approver's key is lost: vtpmctl unlock "
                   "--recovery-key FILE, then: vtpmctl approver";
        case Errc::latched:
            return "nothing was changed. Reboot the host, or: vtpmctl unlock --recovery-key FILE";
        case Errc::wrong_chip:
            return "nothing was changed. If the mainboard is a new one: vtpmctl recover "
                   "--recovery-key FILE --yes";
        case Errc::wrong_cell:
        case Errc::rolled_back:
            return "see: vtpmctl status; nothing was changed. If you know that what is on the disk "
                   "is what you want: vtpmctl recover --recovery-key FILE --yes";
        default:
            return "";
    }
}

Result<void> describe_new(const std::string& name, const std::string& uuid,
                          wire::proto::Create& into) {
    into.set_name(name);
    if (!uuid.empty()) {
        VTPM_TRY(const auto parsed, Uuid::parse(uuid));
        into.set_uuid(parsed.bytes().data(), Uuid::size);
    }
    return {};
}

Result<void> create(ManagerConnection& manager, const CreateOptions& options, Output output) {
    VTPM_TRY(const auto version, tpm::parse_version(options.tpm));
    Request request;
    VTPM_CHECK(describe_new(options.name, options.uuid, *request.mutable_create()));
    auto& create = *request.mutable_create();
    create.set_tpm(static_cast<std::uint32_t>(version));
    create.set_sync(options.sync);
    create.set_group(options.group);
    if (!options.banks.empty()) {
        VTPM_TRY(const auto banks, tpm::parse_pcr_banks(options.banks));
        for (const auto bank : banks)
            create.add_bank(static_cast<std::uint32_t>(bank));
    }
    VTPM_TRY(const auto answer, manager.ask(request));
    if (output.json) {
        print_json(to_json(answer.message.instance()));
    } else {
        std::cout << xl_line(answer.message.instance()) << "\n";
    }
    return {};
}

Result<std::vector<Instance>> all_instances(ManagerConnection& manager) {
    std::vector<Instance> instances;
    for (bool more = true; more;) {
        Request request;
        request.mutable_list();
        if (!instances.empty())
            request.mutable_list()->set_after(instances.back().uuid());
        VTPM_TRY(const auto answer, manager.ask(request));
        const auto& page = answer.message.page();
        instances.insert(instances.end(), page.instance().begin(), page.instance().end());
        more = page.more() && page.instance_size() > 0;
    }
    std::sort(instances.begin(), instances.end(),
              [](const auto& a, const auto& b) { return a.name() < b.name(); });
    return instances;
}

Result<void> list(ManagerConnection& manager, Output output) {
    VTPM_TRY(const auto instances, all_instances(manager));
    if (!output.json) {
        std::cout << table(instances);
        return {};
    }
    auto json = nlohmann::json::array();
    for (const auto& instance : instances)
        json.push_back(to_json(instance));
    print_json(json);
    return {};
}

Result<void> show(ManagerConnection& manager, const std::string& selector, Output output) {
    Request request;
    request.mutable_show()->set_selector(selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    const Instance& instance = answer.message.instance();
    const std::string group = group_name(manager, instance);
    if (output.json) {
        auto json = to_json(instance);
        json["group_name"] = group;
        print_json(json);
    } else {
        std::cout << describe(instance, group);
    }
    return {};
}

Result<void> rename(ManagerConnection& manager, const std::string& selector,
                    const std::string& name, Output output) {
    Request request;
    request.mutable_rename()->set_selector(selector);
    request.mutable_rename()->set_name(name);
    VTPM_TRY(const auto answer, manager.ask(request));
    print(answer.message.instance(), output);
    return {};
}

Result<void> set_sync(ManagerConnection& manager, const std::string& selector, bool sync,
                      Output output) {
    Request request;
    request.mutable_set_sync()->set_selector(selector);
    request.mutable_set_sync()->set_sync(sync);
    VTPM_TRY(const auto answer, manager.ask(request));
    print(answer.message.instance(), output);
    return {};
}

Result<void> remove(ManagerConnection& manager, const std::string& selector, Output output) {
    Request request;
    request.mutable_remove()->set_selector(selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    if (output.json) {
        print_json(to_json(answer.message.instance()));
    } else {
        std::cout << "deleted " << answer.message.instance().name() << " ("
                  << uuid_text(answer.message.instance().uuid())
                  << "); its key is destroyed and its uuid will not be used again\n";
    }
    return {};
}

Result<void> status(ManagerConnection& manager, Output output) {
    Request request;
    request.mutable_status();
    VTPM_TRY(const auto answer, manager.ask(request));
    if (output.json) {
        print_json(to_json(answer.message.status()));
    } else {
        std::cout << describe(answer.message.status());
    }
    return {};
}

Result<void> log(ManagerConnection& manager, std::uint64_t after, Output output) {
    std::vector<wire::proto::LogLine> lines;
    for (bool more = true; more;) {
        Request request;
        request.mutable_log()->set_after(lines.empty() ? after : lines.back().number());
        VTPM_TRY(const auto answer, manager.ask(request));
        const auto& page = answer.message.log();
        // A journal that was tampered with must not keep us here for good.
        more = page.more() && page.line_size() > 0 &&
               page.line(page.line_size() - 1).number() > request.log().after();
        lines.insert(lines.end(), page.line().begin(), page.line().end());
    }
    if (output.json) {
        auto json = nlohmann::json::array();
        for (const auto& line : lines)
            json.push_back(to_json(line));
        print_json(json);
    } else {
        std::cout << table(lines);
    }
    const auto unsound =
        std::count_if(lines.begin(), lines.end(), [](const auto& line) { return !line.sound(); });
    if (unsound == 0)
        return {};
    return fail(Errc::corrupt, std::to_string(unsound) +
                                   " of these lines are not what was written: somebody has changed "
                                   "the log on the disk, or has taken lines out of it");
}

}  // namespace vtpm::control
