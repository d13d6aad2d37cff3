#include "transfer_commands.h"

#include <iostream>

#include "files.h"
#include "presentation.h"

namespace vtpm::control {
namespace {

using wire::proto::Moved;
using wire::proto::Request;

// As the vault's; a larger file is not one of ours.
constexpr std::size_t max_small_file = 4096;
constexpr std::size_t max_package = 2048UL * 1024;

std::string not_empty(const std::string& text) {
    return text.empty() ? "it is empty" : "";
}

nlohmann::json json_of(const Moved& moved) {
    nlohmann::json json = to_json(moved.instance());
    json["peer"] = uuid_text(moved.peer());
    if (!moved.ticket().empty())
        json["ticket"] = moved.ticket();
    if (!moved.package().empty())
        json["package"] = moved.package();
    return json;
}

Result<void> print_moved(const Moved& moved, const std::string& file) {
    auto json = json_of(moved);
    json["file"] = file;
    print_json(json);
    return {};
}

// Asks, and writes what comes as a payload to a new file. Should that fail, asking again gives it
// again.
Result<Answer> ask_into(ManagerConnection& manager, const Request& request, ByteView payload,
                        const std::string& path) {
    NewFile file(path);
    VTPM_CHECK(file.make(0600));
    VTPM_TRY(auto answer, manager.ask(request, payload));
    if (answer.payload.empty())
        return fail(Errc::malformed, "vtpmmgrd sent nothing for " + path);
    if (auto kept = file.keep(answer.payload.view()); !kept) {
        file.forget();
        return tl::make_unexpected(std::move(kept).error());
    }
    return answer;
}

Result<void> confirm(ManagerConnection& manager, const TransferOptions& options, Output output) {
    VTPM_TRY(const Bytes receipt, read_named_file(options.receipt, max_small_file));
    Request request;
    request.mutable_confirm_export()->set_selector(options.selector);
    VTPM_TRY(const auto answer, manager.ask(request, receipt));
    const Moved& moved = answer.message.moved();
    if (output.json) {
        print_json(json_of(moved));
    } else {
        std::cout << printable(moved.instance().name()) << " is at manager "
                  << uuid_text(moved.peer()) << ", and destroyed here.\n";
    }
    return {};
}

Result<void> abort(ManagerConnection& manager, const TransferOptions& options, Output output) {
    Request request;
    request.mutable_abort_export()->set_selector(options.selector);
    VTPM_TRY(const auto answer, manager.ask(request));
    const Moved& moved = answer.message.moved();
    if (output.json) {
        print_json(json_of(moved));
    } else {
        std::cout << printable(moved.instance().name()) << " can be used here again. If manager "
                  << uuid_text(moved.peer())
                  << " has imported it, or does so later, there are two of it: destroy the "
                     "package.\n";
    }
    return {};
}

}  // namespace

void describe_transfers(CLI::App& app, TransferOptions& o, bool& yes) {
    auto* ticket = app.add_subcommand("ticket", "let another host send a TPM to this one");
    ticket->add_option("--group", o.group, "the group it is for; without: the default group")
        ->check(not_empty);
    ticket->add_option("--out", o.out, "write the ticket to this new file")->required();

    auto* away = app.add_subcommand("export", "send a TPM to another host");
    away->add_option("NAME", o.selector, "a name, a uuid, or the beginning of a uuid")->required();
    auto* out = away->add_option("--out", o.out, "write the package to this new file");
    auto* to = away->add_option("--to", o.ticket, "the ticket that the other host has made")
                   ->check(not_empty)
                   ->needs(out);
    out->needs(to);
    away->add_flag("--without-snapshots", o.without_snapshots,
                   "its snapshots stay here, and are destroyed with it")
        ->needs(to);
    away->add_option("--confirm", o.receipt, "the other host's receipt: destroy the TPM here")
        ->check(not_empty);
    away->add_flag("--abort", o.abort, "it was not imported, and never will be: use it here again");
    away->add_flag("--yes", yes, "yes, do that");

    auto* here = app.add_subcommand("import", "take a TPM that another host has sent");
    here->add_option("PACKAGE", o.package, "the package")->required();
    here->add_option("--receipt-out", o.out, "write the receipt to this new file")->required();
    auto* name = here->add_option("--name", o.name, "what you will call it; without: as before")
                     ->check(not_empty);
    here->add_flag("--again", o.again, "it was imported, and its receipt was lost")->excludes(name);

    app.add_subcommand("backup", "a copy of the vault, as it is now")
        ->add_option("FILE", o.out, "write it to this new file")
        ->required();
}

std::string export_without_yes(const TransferOptions& options) {
    if (options.abort) {
        return "export --abort makes " + options.selector +
               " usable here again: if the other host has imported it, or does so later, there are "
               "two TPMs with one identity. Make sure, then add --yes";
    }
    return "export takes " + options.selector +
           " away from this host: it cannot be used here any more. Compare the ticket's "
           "fingerprint with what the other host has shown, then add --yes";
}

Result<void> ticket(ManagerConnection& manager, const TransferOptions& options, Output output) {
    Request request;
    request.mutable_ticket()->set_group(options.group);
    VTPM_TRY(const auto answer, ask_into(manager, request, {}, options.out));
    const auto& made = answer.message.ticket();
    if (output.json) {
        print_json({{"manager", uuid_text(made.manager())},
                    {"group", made.group().name()},
                    {"expires", time_text(made.expires())},
                    {"ticket", made.fingerprint()},
                    {"file", options.out}});
        return {};
    }
    std::cout << line("ticket", made.fingerprint()) << line("manager", uuid_text(made.manager()))
              << line("group", printable(made.group().name()))
              << line("expires", time_text(made.expires()))
              << "Next, on the host that has the TPM:\n"
              << "  vtpmctl export NAME --to " << options.out << " --out PACKAGE --yes\n"
              << "which shows the ticket's number; compare it with this one.\n";
    return {};
}

// The other host is not told of it by the package.
std::string past_that_stays(const wire::proto::Instance& instance) {
    std::string past;
    if (instance.reverts() > 0)
        past += ", was reverted " + std::to_string(instance.reverts()) + " times";
    if (instance.clones() > 0)
        past += ", has " + std::to_string(instance.clones()) + " clones with the same identity";
    if (!instance.origin().empty())
        past += ", is a clone of " + uuid_text(instance.origin()) + " with the same identity";
    return past;
}

Result<void> export_instance(ManagerConnection& manager, const TransferOptions& options,
                             Output output) {
    if (options.abort)
        return abort(manager, options, output);
    if (!options.receipt.empty())
        return confirm(manager, options, output);
    VTPM_TRY(const Bytes ticket, read_named_file(options.ticket, max_small_file));
    Request request;
    request.mutable_export_instance()->set_selector(options.selector);
    request.mutable_export_instance()->set_leave_snapshots(options.without_snapshots);
    VTPM_TRY(const auto answer, ask_into(manager, request, ticket, options.out));
    const Moved& moved = answer.message.moved();
    const std::string past = past_that_stays(moved.instance());
    if (!past.empty())
        std::cerr << "vtpmctl: note: the package does not say so, tell whoever imports it: this TPM"
                  << past << "\n";
    if (output.json)
        return print_moved(moved, options.out);
    const std::string name = printable(moved.instance().name());
    std::cout << name << " can be used here no more; it is for manager " << uuid_text(moved.peer())
              << ".\n"
              << line("ticket", moved.ticket()) << line("package", moved.package())
              << "Should the ticket not be the one that host has shown: destroy the package, and\n"
              << "  vtpmctl export " << name << " --abort --yes\n"
              << "Else, there:\n"
              << "  vtpmctl import " << options.out << " --receipt-out RECEIPT\n"
              << "and here, with its receipt:\n"
              << "  vtpmctl export " << name << " --confirm RECEIPT\n";
    return {};
}

Result<void> import_package(ManagerConnection& manager, const TransferOptions& options,
                            Output output) {
    VTPM_TRY(const Bytes package, read_named_file(options.package, max_package));
    Request request;
    request.mutable_import_package()->set_name(options.name);
    request.mutable_import_package()->set_again(options.again);
    VTPM_TRY(const auto answer, ask_into(manager, request, package, options.out));
    const Moved& moved = answer.message.moved();
    if (output.json)
        return print_moved(moved, options.out);
    std::cout << xl_line(moved.instance()) << "\n"
              << printable(moved.instance().name())
              << " lives here now; it says that it comes from "
              << "manager " << uuid_text(moved.peer()) << ".\n"
              << line("package", moved.package())
              << "That is the number that the other host has shown, or somebody has put another\n"
              << "package in its place: then delete it here. Next, there, with " << options.out
              << ":\n"
              << "  vtpmctl export NAME --confirm RECEIPT\n";
    return {};
}

Result<void> backup(ManagerConnection& manager, const TransferOptions& options, Output output) {
    NewFile file(options.out);
    VTPM_CHECK(file.make(0600));
    Request request;
    request.mutable_backup();
    VTPM_TRY(const auto answer, manager.ask(request));
    if (!answer.descriptor.valid())
        return fail(Errc::malformed, "vtpmmgrd sent no copy of the vault");
    VTPM_CHECK(file.copy(answer.descriptor));
    if (auto kept = file.keep({}); !kept) {
        file.forget();
        return kept;
    }
    const auto size = answer.message.backup().size();
    if (output.json) {
        print_json({{"file", options.out}, {"bytes", size}});
    } else {
        std::cout << options.out << " holds the vault as it is now, " << size
                  << " bytes. It opens with this host's TPM, or with the recovery key.\n";
    }
    return {};
}

}  // namespace vtpm::control
