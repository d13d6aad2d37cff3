#include "snapshot_commands.h"

#include <iostream>

#include "presentation.h"

namespace vtpm::control {
namespace {

using wire::proto::Instance;
using wire::proto::Request;

std::string not_empty(const std::string& text) {
    return text.empty() ? "it is empty" : "";
}

nlohmann::json json_of(const Instance& instance, const std::string& snapshot) {
    auto json = to_json(instance);
    json["snapshot"] = snapshot;
    return json;
}

void select(const SnapshotOptions& options, wire::proto::SnapshotSelect& into) {
    into.set_selector(options.selector);
    into.set_snapshot(options.snapshot);
}

}  // namespace

void describe_snapshots(CLI::App& app, SnapshotOptions& o, bool& yes) {
    const auto by_name = [&](const char* verb, const char* what) {
        auto* command = app.add_subcommand(verb, what);
        command->add_option("NAME", o.selector, "a name, a uuid, or the beginning of a uuid")
            ->required();
        return command;
    };
    const auto with_snapshot = [&](CLI::App* command) {
        command->add_option("SNAPSHOT", o.snapshot, "the snapshot's name")
            ->required()
            ->check(not_empty);
        return command;
    };
    with_snapshot(by_name("snapshot", "keep a TPM as it is now, while its guest is off"));
    by_name("snapshots", "what was kept of a TPM");
    with_snapshot(by_name("delete-snapshot", "destroy a snapshot"))
        ->add_flag("--yes", yes, "yes, destroy it");
    with_snapshot(by_name("revert", "make a TPM what it was, while its guest is off"))
        ->add_flag("--yes", yes, "yes: what was written since is lost");
    auto* clone = by_name("clone", "another TPM that begins with the state of this one");
    clone->add_option("--name", o.name, "what you will call it")->required();
    clone->add_option("--snapshot", o.snapshot, "with the state in this snapshot")
        ->check(not_empty);
    clone->add_option("--uuid", o.uuid, "the uuid that the guest's file has already");
}

std::string snapshot_without_yes(const std::string& command, const SnapshotOptions& options) {
    if (command == "delete-snapshot")
        return "delete-snapshot destroys snapshot " + options.snapshot + " of " + options.selector +
               " for good; add --yes";
    if (command == "revert")
        return "revert makes the TPM " + options.selector + " what it was in snapshot " +
               options.snapshot +
               ": what its guest has written since is lost, keys that it has destroyed come back, "
               "and its counters go back. Add --yes";
    return "";
}

Result<void> take_snapshot(ManagerConnection& manager, const SnapshotOptions& options,
                           Output output) {
    Request request;
    select(options, *request.mutable_take_snapshot());
    VTPM_TRY(const auto answer, manager.ask(request));
    const Instance& instance = answer.message.instance();
    if (output.json) {
        print_json(json_of(instance, options.snapshot));
    } else {
        std::cout << "snapshot " << options.snapshot << " of " << printable(instance.name())
                  << " is kept, at write " << instance.sequence() << "\n";
    }
    return {};
}

Result<void> list_snapshots(ManagerConnection& manager, const SnapshotOptions& options,
                            Output output) {
    Request request;
    request.mutable_snapshots()->set_selector(options.selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    const auto& kept = answer.message.snapshots();
    if (output.json) {
        auto json = nlohmann::json::array();
        for (const auto& snapshot : kept.snapshot())
            json.push_back({{"name", snapshot.name()},
                            {"made", time_text(snapshot.made())},
                            {"sequence", snapshot.sequence()},
                            {"bytes", snapshot.bytes()}});
        print_json(json);
        return {};
    }
    std::vector<Row> rows = {{"SNAPSHOT", "MADE", "WRITE", "BYTES"}};
    for (const auto& snapshot : kept.snapshot())
        rows.push_back({printable(snapshot.name()), time_text(snapshot.made()),
                        std::to_string(snapshot.sequence()), std::to_string(snapshot.bytes())});
    std::cout << aligned(rows);
    return {};
}

Result<void> delete_snapshot(ManagerConnection& manager, const SnapshotOptions& options,
                             Output output) {
    Request request;
    select(options, *request.mutable_remove_snapshot());
    VTPM_TRY(const auto answer, manager.ask(request));
    const Instance& instance = answer.message.instance();
    if (output.json) {
        print_json(json_of(instance, options.snapshot));
    } else {
        std::cout << "deleted snapshot " << options.snapshot << " of " << printable(instance.name())
                  << "\n";
    }
    return {};
}

Result<void> revert(ManagerConnection& manager, const SnapshotOptions& options, Output output) {
    Request request;
    select(options, *request.mutable_revert());
    VTPM_TRY(const auto answer, manager.ask(request));
    const Instance& instance = answer.message.instance();
    if (output.json) {
        print_json(json_of(instance, options.snapshot));
    } else {
        std::cout << printable(instance.name()) << " is what it was in snapshot "
                  << options.snapshot << "; reverts so far: " << instance.reverts()
                  << ".\nA guest that is restored from a save file gets no TPM that fits it: start "
                     "the guest with xl create.\n";
    }
    return {};
}

Result<void> clone(ManagerConnection& manager, const SnapshotOptions& options, Output output) {
    Request request;
    auto& clone = *request.mutable_clone();
    clone.set_selector(options.selector);
    clone.set_snapshot(options.snapshot);
    clone.set_name(options.name);
    if (!options.uuid.empty()) {
        VTPM_TRY(const auto uuid, Uuid::parse(options.uuid));
        clone.set_uuid(uuid.bytes().data(), Uuid::size);
    }
    VTPM_TRY(const auto answer, manager.ask(request));
    const Instance& instance = answer.message.instance();
    if (output.json) {
        print_json(to_json(instance));
        return {};
    }
    std::cout << xl_line(instance) << "\n";
    std::cerr << "vtpmctl: note: " << printable(instance.name())
              << " has the identity of its original: the same seeds, so the same endorsement key "
                 "and the same keys. Nobody who asks the one can tell it from the other\n";
    return {};
}

}  // namespace vtpm::control
