#include "setup_commands.h"

#include <iostream>

#include "files.h"
#include "presentation.h"
#include "recovery_pair.h"

namespace vtpm::control {
namespace {

using wire::proto::Request;

bool wants_recovery_key(const SetupOptions& options) {
    return !options.recovery_out.empty() || !options.recovery_public.empty();
}

// A vault that is there takes a recovery key from a set-up, and nothing else.
Result<void> refuse_if_set_up(ManagerConnection& manager, const SetupOptions& options) {
    if (options.approver.key.empty() && !options.no_latch && !options.legacy_tpm12)
        return {};
    Request request;
    request.mutable_status();
    VTPM_TRY(const auto answer, manager.ask(request));
    if (answer.message.status().phase() == "not-set-up")
        return {};
    return fail(Errc::already_exists,
                "this host is set up already, and nothing was changed. Who approves its boots is "
                "changed with: vtpmctl approver; whether it has a boot latch stays as it is");
}

// What the manager did not answer for may be done all the same.
tl::unexpected<Error> perhaps_in_force(Error error, const std::string& key_file) {
    error.context += ". The recovery key in " + key_file +
                     " may be in force all the same, and is kept: vtpmctl check-recovery-key " +
                     key_file + " says whether it is";
    return tl::unexpected<Error>(std::move(error));
}

Result<Answer> ask_with_key(ManagerConnection& manager, Request request,
                            const std::string& key_file) {
    SecretBytes key;
    if (!key_file.empty()) {
        VTPM_TRY(key, read_secret(key_file));
    }
    return manager.ask(std::move(request), key.view());
}

// Whether what lies in the file opens what the manager has just escrowed. That file, and not what
// went into it, is what its owner will have on the day.
Result<void> prove_recovery_key(ManagerConnection& manager, const std::string& key_file) {
    Request request;
    request.mutable_check_recovery_key();
    auto answer = ask_with_key(manager, std::move(request), key_file);
    if (answer)
        return {};
    Error error = std::move(answer).error();
    error.context = "this host is set up, but the recovery key in " + key_file +
                    " did not prove to open what was escrowed to it: " + error.context +
                    ". Keep the file, and try again: vtpmctl check-recovery-key " + key_file +
                    ". If that fails as well, make another key: vtpmctl setup --recovery-out "
                    "OTHER --replace-recovery-key";
    return tl::unexpected<Error>(std::move(error));
}

// Whether the manager has said no; else it may have done it, or do it yet.
bool refused(Errc code) {
    return code != Errc::unavailable && code != Errc::timeout && code != Errc::io &&
           code != Errc::malformed;
}

Result<Answer> ask_setup(ManagerConnection& manager, const SetupOptions& options) {
    Request request;
    auto& setup = *request.mutable_setup();
    setup.set_replace(options.replace_key);
    setup.set_no_latch(options.no_latch);
    setup.set_legacy_tpm12(options.legacy_tpm12);
    setup.set_beside_another(options.beside_another);
    VTPM_CHECK(fill(*setup.mutable_approver(), options.approver));
    if (!options.recovery_public.empty()) {
        VTPM_TRY(*setup.mutable_recovery_public(), read_public_key(options.recovery_public));
    }
    VTPM_CHECK(refuse_if_set_up(manager, options));
    if (options.recovery_out.empty())
        return manager.ask(request);
    // On the disk before anybody escrows a key to it; the private half goes nowhere else.
    NewFile file(options.recovery_out);
    VTPM_CHECK(file.make(0600));
    {
        VTPM_TRY(RecoveryPair pair, make_recovery_pair());
        setup.set_recovery_public(std::move(pair.public_pem));
        if (auto kept = file.keep(pair.private_pem.view()); !kept) {
            file.forget();
            return tl::make_unexpected(std::move(kept).error());
        }
    }
    // The manager may do it, and neither of us live to tell.
    std::cerr << "vtpmctl: " << options.recovery_out
              << " is written; it may be in force from now on: keep it until 'vtpmctl "
                 "check-recovery-key "
              << options.recovery_out << "' says that it is not\n";
    auto answer = manager.ask(request);
    if (!answer && !refused(answer.error().code))
        return perhaps_in_force(std::move(answer).error(), options.recovery_out);
    if (!answer) {
        file.forget();
        return answer;
    }
    VTPM_CHECK(prove_recovery_key(manager, options.recovery_out));
    return answer;
}

void say_what_setup_did(const std::string& manager, const SetupOptions& options) {
    std::cout << "This host is manager " << manager << ". Its keys are sealed to the host's TPM.\n";
    if (!options.recovery_out.empty()) {
        std::cout << "The recovery key is in " << options.recovery_out
                  << ", and opens what was escrowed to it. Move it off this machine: who has it "
                     "and the disk has every guest's TPM.\n";
    } else if (!options.recovery_public.empty()) {
        std::cout << "The private half of " << options.recovery_public
                  << " is the recovery key: who has it and the disk has every guest's TPM.\n";
    } else {
        std::cout
            << "No recovery key was made: if the TPM or the mainboard dies, so do the guests' "
               "TPMs.\nTo make one: vtpmctl setup --recovery-out FILE\n";
        if (options.legacy_tpm12)
            std::cout << "WARNING: on a TPM 1.2 nothing but a recovery key opens a boot that was "
                         "not foreseen, as after an update. Make one now.\n";
    }
    if (!options.approver.key.empty()) {
        std::cout << "From now on its boots have to be approved, this one first, or the next start "
                     "is locked: vtpmctl approve this-boot\n";
    }
    if (options.legacy_tpm12) {
        std::cout << "They are sealed to this boot alone. Before the next update of what is "
                     "measured: vtpmctl approve next --legacy-tpm12 --pcr N=HEX. What a TPM 1.2 "
                     "cannot do: vtpmctl status\n";
    }
    if (!options.recovery_public.empty())
        std::cout << "Next: vtpmctl check-recovery-key FILE, with the private half, here or where "
                     "a pipe brings it from: nobody has tried yet whether it opens anything. "
                     "Then: vtpmctl create --name NAME\n";
    else
        std::cout << "Next: vtpmctl create --name NAME\n";
}

void print_status(const wire::proto::Status& status, const char* what_happened, Output output) {
    if (output.json)
        return print_json(to_json(status));
    std::cout << what_happened << describe(status);
}

}  // namespace

Result<void> fill(wire::proto::Approver& approver, const ApproverOptions& options) {
    for (const std::uint32_t number : options.pcrs)
        approver.add_pcr(number);
    if (options.key.empty())
        return {};
    VTPM_TRY(*approver.mutable_key(), read_public_key(options.key));
    return {};
}

Result<void> setup(ManagerConnection& manager, const SetupOptions& options, Output output) {
    const auto answer = ask_setup(manager, options);
    const bool wishes = wants_recovery_key(options) || !options.approver.key.empty() ||
                        options.no_latch || options.legacy_tpm12;
    const bool before = !answer && answer.error().code == Errc::already_exists &&
                        !wishes;  // setting up twice is not a mistake
    if (!answer && !before)
        return tl::make_unexpected(answer.error());
    if (output.json) {
        nlohmann::json json = {{"already_set_up", before}};
        if (answer)
            json["manager"] = uuid_text(answer->message.setup().manager());
        if (!options.recovery_out.empty())
            json["recovery_key"] = options.recovery_out;
        if (wants_recovery_key(options))
            json["recovery_key_proved"] = !options.recovery_out.empty();
        print_json(json);
    } else if (before) {
        std::cout << "This host is set up already; nothing was changed.\n";
    } else {
        say_what_setup_did(uuid_text(answer->message.setup().manager()), options);
    }
    return {};
}

Result<void> recover(ManagerConnection& manager, const std::string& key_file, Output output) {
    Request request;
    request.mutable_recover();
    VTPM_TRY(const auto answer, ask_with_key(manager, request, key_file));
    print_status(answer.message.status(),
                 "What is on the disk counts as the newest state from now on.\n", output);
    return {};
}

Result<void> unlock(ManagerConnection& manager, const std::string& key_file, Output output) {
    Request request;
    request.mutable_unlock();
    VTPM_TRY(const auto answer, ask_with_key(manager, request, key_file));
    print_status(answer.message.status(), "Opened with the recovery key, for this boot.\n", output);
    return {};
}

Result<void> check_recovery_key(ManagerConnection& manager, const std::string& key_file,
                                Output output) {
    Request request;
    request.mutable_check_recovery_key();
    VTPM_TRY(const auto answer, ask_with_key(manager, request, key_file));
    (void)answer;
    if (output.json) {
        print_json({{"recovery_key", key_file}, {"good", true}});
    } else {
        std::cout << key_file << " opens the escrow of every key that is at hand.\n";
    }
    return {};
}

}  // namespace vtpm::control
