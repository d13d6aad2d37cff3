#include "command_line.h"

#include <algorithm>
#include <charconv>

#include "version.h"

namespace vtpm::control {
namespace {

std::string each_is_a_pcr(const std::string& text) {
    unsigned number = 0;
    const auto* const end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, number);
    return read.ec == std::errc() && read.ptr == end && number <= max_pcr
               ? ""
               : text + " is no PCR (0 to 23)";
}

// An unset variable of a script must not read as "without".
std::string not_empty(const std::string& text) {
    return text.empty() ? "it is empty" : "";
}

CLI::Option* add_pcrs(CLI::App* command, ApproverOptions& approver) {
    return command
        ->add_option("--pcrs", approver.pcrs, "the PCRs that the approvals are about, like 0,2,4,7")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(each_is_a_pcr);
}

void add_group(CLI::App* command, std::string& group) {
    command->add_option("--group", group, "a group's name or uuid; without: the default group")
        ->check(not_empty);
}

void describe_setup(CLI::App& app, Arguments& a) {
    auto* setup = app.add_subcommand("setup", "make this host ready: keys, sealed to its TPM");
    auto* out = setup
                    ->add_option("--recovery-out", a.setup.recovery_out,
                                 "make a recovery key and write it to this new file")
                    ->check(not_empty);
    setup
        ->add_option("--recovery-public", a.setup.recovery_public,
                     "or take this public key (P-256, PEM) of one that lies elsewhere")
        ->check(not_empty)
        ->excludes(out);
    setup->add_flag("--replace-recovery-key", a.setup.replace_key,
                    "on a host that is set up: in place of the recovery key it has");
    auto* approver = setup
                         ->add_option("--approver", a.setup.approver.key,
                                      "who approves this host's boots: a public key (PEM)")
                         ->check(not_empty);
    add_pcrs(setup, a.setup.approver);
    setup->add_flag("--no-latch", a.setup.no_latch,
                    "let the chip give out the keys more than once a boot");
    setup->add_flag("--beside-another", a.setup.beside_another,
                    "although this host's TPM has the commit cell of another vault");
    setup
        ->add_flag("--legacy-tpm12", a.setup.legacy_tpm12,
                   "the chip is a TPM 1.2: seal to this boot, over --pcrs, with less than a TPM "
                   "2.0 can do")
        ->excludes(approver);
    auto* recover = app.add_subcommand(
        "recover", "take what is on the disk for the newest state, and this chip for its own");
    recover->add_option("--recovery-key", a.recovery_key, "the file that setup wrote it to")
        ->check(not_empty);
    recover->add_flag("--yes", a.yes, "yes: newer states, if there were any, are lost");
    app.add_subcommand("unlock", "open the vault on this boot with the recovery key")
        ->add_option("--recovery-key", a.recovery_key, "the file that setup wrote it to")
        ->required();
    app.add_subcommand("check-recovery-key", "is this the recovery key of this host?")
        ->add_option("FILE", a.recovery_key, "the file that setup wrote it to")
        ->required();
}

void describe_import_swtpm(CLI::App& app, ImportSwtpmOptions& options) {
    auto* import = app.add_subcommand("import-swtpm",
                                      "make a TPM for a guest out of one that swtpm has served");
    import->add_option("DIRECTORY", options.source, "swtpm's state directory, or its file")
        ->required();
    import->add_option("--name", options.name, "what you will call it")->required();
    import->add_option("--tpm", options.tpm, "1.2 or 2.0, if the directory has both")
        ->check(CLI::IsMember({"1.2", "2.0"}));
    import->add_option("--uuid", options.uuid, "the uuid that the guest's file has already");
    import->add_flag("--sync", options.sync, "as for create");
    add_group(import, options.group);
    auto* key = import->add_option("--key", options.key,
                                   "the key of an encrypted state, described as for swtpm: "
                                   "FILE[,format=hex|binary][,mode=aes-cbc|aes-256-cbc]");
    import
        ->add_option("--pwdfile", options.passphrase,
                     "or its passphrase: FILE[,kdf=pbkdf2|sha512][,mode=aes-cbc|aes-256-cbc]")
        ->excludes(key);
}

void describe_policy(CLI::App& app, Arguments& a) {
    auto* policy = app.add_subcommand("policy", "which commands a TPM executes for its guest");
    policy->add_option("NAME", a.selector, "a name, a uuid, or the beginning of a uuid")
        ->required();
    policy->add_option("--deny", a.policy.deny, "a command to refuse: TPM2_Clear, or 0x126");
    policy->add_option("--permit", a.policy.permit, "one to refuse no more");
    policy
        ->add_option("--localities", a.policy.localities,
                     "those from which commands are accepted, of 0 to 3")
        ->delimiter(',')
        ->check(CLI::Range(0, 3));
    const auto either_way = [&](const char* words, std::optional<bool>& wish, const char* text) {
        policy->add_flag_function(
            words, [&wish](std::int64_t times) { wish = times > 0; }, text);
    };
    either_way("--vendor,!--no-vendor", a.policy.vendor, "execute vendors' commands, or not");
    either_way("--maintenance,!--no-maintenance", a.policy.maintenance,
               "execute field upgrades and maintenance archives, or not");
}

void describe_sync(CLI::App& app, Arguments& a) {
    auto* sync = app.add_subcommand("sync",
                                    "commit each write of a TPM to the chip, or many at "
                                    "once");
    sync->add_option("NAME", a.selector, "a name, a uuid, or the beginning of a uuid")->required();
    const auto take = [&a](const std::string& word) { a.sync = word == "on"; };
    sync->add_option_function<std::string>("STATE", take, "on or off")
        ->required()
        ->check(CLI::IsMember({"on", "off"}));
}

void describe_instances(CLI::App& app, Arguments& a) {
    const auto by_name = [&](CLI::App* command) {
        command->add_option("NAME", a.selector, "a name, a uuid, or the beginning of a uuid")
            ->required();
    };
    auto* create = app.add_subcommand("create", "make a TPM for a guest");
    create->add_option("--name", a.create.name, "what you will call it")->required();
    create->add_option("--tpm", a.create.tpm, "1.2 or 2.0")
        ->check(CLI::IsMember({"1.2", "2.0"}))
        ->capture_default_str();
    create->add_option("--uuid", a.create.uuid, "the uuid that the guest's file has already");
    create->add_flag("--sync", a.create.sync,
                     "every write is committed to the chip before the guest gets its answer; wears "
                     "the chip");
    create
        ->add_option("--pcr-banks", a.create.banks,
                     "of a TPM 2.0: sha1, sha256 (the default), sha384, sha512")
        ->delimiter(',');
    add_group(create, a.create.group);
    describe_import_swtpm(app, a.import_swtpm);
    auto* list = app.add_subcommand("list", "all TPMs of this host");
    auto* watch = list->add_flag("--watch", a.watch.watch, "go on, and show what changes");
    list->add_option("--interval", a.watch.seconds, "seconds between two looks")
        ->check(CLI::Range(1, 3600))
        ->capture_default_str()
        ->needs(watch);
    by_name(app.add_subcommand("show", "one of them"));
    by_name(app.add_subcommand("qemu", "how a guest of QEMU or KVM gets one of them"));
    auto* rename = app.add_subcommand("rename", "give one another name");
    by_name(rename);
    rename->add_option("NEW-NAME", a.new_name, "its new name")->required();
    describe_sync(app, a);
    describe_policy(app, a);
    auto* remove = app.add_subcommand("delete", "destroy one and everything in it");
    by_name(remove);
    remove->add_flag("--yes", a.yes, "yes, destroy it");
    auto* rotate = app.add_subcommand("rotate", "a new key: of a TPM, of a group or of the vault");
    rotate->add_option("NAME", a.rotate.instance, "a TPM's name or uuid");
    rotate->add_option("--group", a.rotate.group, "a group's name or uuid");
    rotate->add_flag("--root", a.rotate.root, "the vault's root key");
}

void add_approve_options(CLI::App* command, ApproveOptions& approve) {
    add_group(command, approve.group);
    command->add_flag("--after-revoke", approve.after_revoke, "it outlives the next revocation");
    command->add_flag("--legacy-tpm12", approve.legacy_tpm12,
                      "the chip is a TPM 1.2: nobody signs, the open vault is sealed for it too");
    auto* key = command->add_option("--key", approve.key,
                                    "sign here, with this private key (PEM, not encrypted)");
    command->add_option("--out", approve.out, "write what is to be signed elsewhere to a new file")
        ->excludes(key);
}

void describe_approvals(CLI::App& app, Arguments& a) {
    auto* approver = app.add_subcommand("approver", "change who approves the boots of this host");
    add_group(approver, a.group);
    auto* key = approver->add_option("--key", a.approver.key, "a public key (P-256 or RSA, PEM)");
    add_pcrs(approver, a.approver)->needs(key);
    approver->add_flag("--none", a.no_approver, "nobody: any boot has the keys")->excludes(key);
    approver->add_flag("--yes", a.yes, "yes, change it");

    auto* approve = app.add_subcommand("approve", "let a boot of this host have the keys");
    approve->require_subcommand(1);
    add_approve_options(approve->add_subcommand("this-boot", "the boot that runs now"), a.approve);
    auto* next = approve->add_subcommand("next", "one that will be different from this one");
    add_approve_options(next, a.approve);
    auto* pcr = next->add_option("--pcr", a.approve.pcrs, "N=HEX: a PCR's value then");
    auto* replace = next->add_option("--replace", a.approve.replacements,
                                     "OLD=NEW: a digest in the event log and what it will be");
    replace->excludes(pcr);
    next->add_option("--event-log", a.approve.event_log, "this boot's event log")
        ->capture_default_str()
        ->needs(replace);
    auto* import = approve->add_subcommand("import", "bring in what was signed elsewhere");
    import->add_option("FILE", a.import.file, "the statement that --out has written")->required();
    import->add_option("--signature", a.import.signature, "what openssl dgst -sign has written")
        ->check(not_empty);
    add_group(import, a.import.group);
    approve->add_subcommand("list", "all approvals, and what they are worth now");

    auto* revoke = app.add_subcommand("revoke", "make the approvals given so far void");
    revoke->add_flag("--force", a.force, "even if nothing then opens on this boot");
    revoke->add_flag("--yes", a.yes, "yes, make them void");
}

void describe_groups(CLI::App& app, Arguments& a) {
    auto* group = app.add_subcommand("group", "TPMs under a key and an approver of their own");
    group->require_subcommand(1);
    const auto by_name = [&](const char* verb, const char* what) {
        auto* command = group->add_subcommand(verb, what);
        command->add_option("NAME", a.selector, "a group's name or uuid")
            ->required()
            ->check(not_empty);
        return command;
    };
    auto* create = by_name("create", "make one");
    auto* key = create
                    ->add_option("--approver", a.approver.key,
                                 "who approves boots for it: a public key (PEM)")
                    ->check(not_empty);
    add_pcrs(create, a.approver)->needs(key);
    group->add_subcommand("list", "all groups");
    by_name("show", "one of them");
    by_name("open", "have the chip give out its key");
    by_name("close", "forget its key: its TPMs cannot be used");
    by_name("delete", "destroy an empty one")->add_flag("--yes", a.yes, "yes, destroy it");
}

bool one_of(bool first, bool second) {
    return first != second;
}

std::string without_yes(const std::string& command, const Arguments& a) {
    if (command == "delete")
        return "delete destroys everything in " + a.selector + " for good; add --yes";
    if (command == "group delete")
        return "group delete destroys the key of group " + a.selector + " for good; add --yes";
    if (command == "recover") {
        return "recover takes what is on the disk for the newest state: what was written after it "
               "is lost for good. See: vtpmctl status. Then add --yes";
    }
    if (command == "revoke") {
        return "revoke makes all approvals void that were not made with --after-revoke: a boot "
               "that has no other is locked. On a TPM 1.2 only the boot that runs stays. See: "
               "vtpmctl approve list. Then add --yes";
    }
    if (a.no_approver) {
        return "approver --none lets whoever boots this host, with whatever system, have the keys "
               "of the group; add --yes";
    }
    return "approver makes the holder of this key the one who decides which boots have the keys of "
           "the group. What the one before has signed opens nothing that is sealed from now on, "
           "and "
           "without a new approval (vtpmctl approve this-boot) the next start is locked. Add --yes";
}

}  // namespace

void describe_commands(CLI::App& app, Arguments& a) {
    app.add_option("--socket", a.socket, "vtpmmgrd's socket")->capture_default_str();
    app.add_flag("--json", a.output.json, "print JSON");
    app.set_version_flag("--version", VTPM_VERSION);
    app.require_subcommand(1);
    app.fallthrough();
    describe_setup(app, a);
    describe_instances(app, a);
    describe_approvals(app, a);
    describe_groups(app, a);
    describe_transfers(app, a.transfer, a.yes);
    describe_snapshots(app, a.snapshot, a.yes);
    app.add_subcommand("status", "the manager, its vault and the host's TPM");
    app.add_subcommand("log", "who did what, and when")
        ->add_option("--after", a.after, "only what comes after the line of this number")
        ->check(CLI::NonNegativeNumber);
    app.add_subcommand("doctor", "look for what is wrong with this host's set-up");
}

std::string command_of(const CLI::App& app) {
    std::string command;
    for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
        at = at->get_subcommands().front();
        command += (command.empty() ? "" : " ") + at->get_name();
    }
    return command;
}

std::optional<std::string> objection(const std::string& command, const Arguments& a) {
    const auto& approve = a.approve;
    if (command == "setup" && a.setup.replace_key && a.setup.recovery_out.empty() &&
        a.setup.recovery_public.empty())
        return "--replace-recovery-key needs --recovery-out or --recovery-public";
    if (command == "setup" && a.setup.replace_key &&
        (!a.setup.approver.key.empty() || a.setup.no_latch || a.setup.legacy_tpm12))
        return "--replace-recovery-key is for a host that is set up; --approver, --no-latch and "
               "--legacy-tpm12 are for one that is not";
    if (command == "approver" && !one_of(!a.approver.key.empty(), a.no_approver))
        return "approver needs --key FILE or --none";
    if (command == "setup" && !a.setup.approver.pcrs.empty() && a.setup.approver.key.empty() &&
        !a.setup.legacy_tpm12)
        return "--pcrs needs --approver, or --legacy-tpm12";
    const bool approves = command == "approve this-boot" || command == "approve next";
    if (approves && approve.legacy_tpm12 &&
        (!approve.key.empty() || !approve.out.empty() || !approve.replacements.empty() ||
         approve.after_revoke))
        return command + " --legacy-tpm12 takes --group and --pcr only";
    if (approves && !approve.legacy_tpm12 && !one_of(!approve.key.empty(), !approve.out.empty()))
        return command + " needs --key FILE, to sign here, or --out FILE, to sign elsewhere";
    if (command == "approve next" && !one_of(!approve.pcrs.empty(), !approve.replacements.empty()))
        return "approve next needs --replace OLD=NEW, or --pcr N=HEX, for what will be different";
    if (command == "rotate" && static_cast<int>(!a.rotate.instance.empty()) +
                                       static_cast<int>(!a.rotate.group.empty()) +
                                       static_cast<int>(a.rotate.root) !=
                                   1)
        return "rotate needs one of NAME, --group G and --root";
    const auto& transfer = a.transfer;
    if (command == "export" && static_cast<int>(!transfer.ticket.empty()) +
                                       static_cast<int>(!transfer.receipt.empty()) +
                                       static_cast<int>(transfer.abort) !=
                                   1)
        return "export needs one of --to TICKET, --confirm RECEIPT and --abort";
    if (command == "export" && transfer.receipt.empty() && !a.yes)
        return export_without_yes(transfer);
    if (const auto why = snapshot_without_yes(command, a.snapshot); !a.yes && !why.empty())
        return why;
    const bool grave = command == "delete" || command == "group delete" || command == "recover" ||
                       command == "revoke" || command == "approver";
    if (grave && !a.yes)
        return without_yes(command, a);
    return std::nullopt;
}

}  // namespace vtpm::control
