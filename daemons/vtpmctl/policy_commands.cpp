#include "policy_commands.h"

#include <algorithm>
#include <iostream>

#include "files.h"
#include "group_commands.h"
#include "policy_presentation.h"
#include "prediction.h"
#include "presentation.h"

namespace vtpm::control {
namespace {

using wire::proto::Request;

void put(const PcrValues& pcrs, google::protobuf::RepeatedPtrField<wire::proto::Pcr>& into) {
    for (const auto& [number, value] : pcrs) {
        auto& pcr = *into.Add();
        pcr.set_number(number);
        pcr.set_value(value.data(), value.size());
    }
}

Result<BootStatement> ask_statement(ManagerConnection& manager, const std::string& group,
                                    const PcrValues& others, bool outlives_revocation) {
    Request request;
    auto& query = *request.mutable_statement();
    query.set_group(group);
    put(others, *query.mutable_other());
    query.set_outlives_revocation(outlives_revocation);
    VTPM_TRY(const auto answer, manager.ask(request));
    return statement_of(answer.message.statement());
}

// What the approval has brought about: it may be the one that the host was waiting for.
Result<void> say_approved(ManagerConnection& manager, const BootStatement& statement,
                          Output output) {
    Request request;
    request.mutable_status();
    VTPM_TRY(const auto answer, manager.ask(request));
    const auto& status = answer.message.status();
    VTPM_TRY(const auto groups, groups_of(manager));
    const auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& one) {
        return uuid_text(one.uuid()) == statement.group.to_string();
    });
    const bool open = group != groups.end() && group->open();
    if (output.json) {
        auto json = to_json(statement);
        json["approved"] = true;
        json["state"] = status.phase();
        json["group"]["state"] = open ? "open" : "closed";
        print_json(json);
        return {};
    }
    std::cout << "Approved for group " << statement.group_name << ", over the PCRs "
              << numbers_text(statement.pcrs) << ".\n";
    if (status.phase() != "open") {
        std::cout << "The vault is " << status.phase() << ": " << status.reason().context() << "\n";
    } else if (!open) {
        std::cout
            << "The group is closed. If this boot is the one that was approved: vtpmctl group "
               "open "
            << statement.group_name << "\n";
    }
    return {};
}

Result<void> send_approval(ManagerConnection& manager, const BootStatement& statement,
                           Output output) {
    Request request;
    auto& approve = *request.mutable_approve();
    approve.set_group(statement.group.to_string());
    put(statement.pcrs, *approve.mutable_pcr());
    approve.set_limit(statement.limit);
    approve.set_signature(statement.signature.data(), statement.signature.size());
    const auto answer = manager.ask(request);
    if (!answer && answer.error().code == Errc::not_approved) {
        return fail(Errc::invalid_argument, "this is not a signature of the approver of group " +
                                                statement.group_name + " over this statement (" +
                                                answer.error().context + ")");
    }
    if (!answer)
        return tl::make_unexpected(answer.error());
    return say_approved(manager, statement, output);
}

Result<void> write_statement(const BootStatement& statement, const std::string& path) {
    NewFile file(path);
    NewFile words(path + ".words");
    VTPM_CHECK(file.make(0644));
    VTPM_CHECK(words.make(0644));
    VTPM_CHECK(file.keep(as_bytes(to_json(statement).dump(2) + "\n")));
    if (auto kept = words.keep(statement.words); !kept) {
        file.forget();
        words.forget();
        return kept;
    }
    return {};
}

// Signed here, or written down to be signed elsewhere.
Result<void> have_signed(ManagerConnection& manager, BootStatement statement, const PcrValues& now,
                         const ApproveOptions& options, Output output) {
    if (!options.key.empty()) {
        VTPM_TRY(const SecretBytes key, read_secret(options.key));
        VTPM_TRY(statement.signature, sign(statement.words, key));
        return send_approval(manager, statement, output);
    }
    VTPM_CHECK(write_statement(statement, options.out));
    const std::string words = options.out + ".words";
    const std::string signature = options.out + ".sig";
    const std::string to_sign =
        "openssl dgst -sha256 -sign YOUR-KEY.pem -out " + signature + " " + words;
    const std::string to_import =
        "vtpmctl approve import " + options.out + " --signature " + signature;
    if (output.json) {
        auto json = to_json(statement);
        json["statement"] = options.out;
        json["words_file"] = words;
        json["next"] = {to_sign, to_import};
        print_json(json);
        return {};
    }
    std::cout << "For manager " << statement.manager.to_string() << ", group "
              << statement.group_name << " (" << statement.group.to_string()
              << "), and these values of the PCRs, which the signer should compare:\n"
              << describe(statement.pcrs, now) << "Where the approver's key is:\n    " << to_sign
              << "\nThen here:\n    " << to_import << "\n";
    return {};
}

Result<PcrValues> next_values(const ApproveOptions& options, const BootStatement& now) {
    if (!options.replacements.empty()) {
        VTPM_TRY(const auto replacements, parse_replacements(options.replacements));
        VTPM_TRY(const EventLog log, read_event_log(options.event_log));
        return predict(log, now.pcrs, replacements);
    }
    VTPM_TRY(PcrValues values, parse_pcr_values(options.pcrs));
    for (const auto& [number, value] : values) {
        if (!now.pcrs.contains(number)) {
            return fail(Errc::invalid_argument,
                        "PCR " + std::to_string(number) + " is not among those that group " +
                            now.group_name + "'s approvals are about: " + numbers_text(now.pcrs));
        }
    }
    return values;
}

// The digits of a TPM 1.2's PCR, as the manager has them: SHA-1, then zeros.
std::vector<std::string> padded(std::vector<std::string> pcrs) {
    constexpr std::size_t sha1_digits = 40;
    constexpr std::size_t all_digits = 64;
    for (auto& pcr : pcrs) {
        const auto equals = pcr.find('=');
        if (equals != std::string::npos && pcr.size() - equals - 1 == sha1_digits)
            pcr.append(all_digits - sha1_digits, '0');
    }
    return pcrs;
}

Result<void> approve_unsigned(ManagerConnection& manager, const ApproveOptions& options,
                              Output output) {
    VTPM_TRY(const PcrValues pcrs, parse_pcr_values(padded(options.pcrs)));
    Request request;
    auto& approve = *request.mutable_approve();
    approve.set_group(options.group);
    approve.set_without_signature(true);
    put(pcrs, *approve.mutable_pcr());
    VTPM_CHECK(manager.ask(request));
    if (output.json) {
        print_json({{"approved", true}});
    } else {
        std::cout << "The keys are sealed for that boot too. Which there are: vtpmctl approve "
                     "list\n";
    }
    return {};
}

Result<BootStatement> read_signed_statement(const ImportOptions& options) {
    VTPM_TRY(const Bytes file, read_named_file(options.file, BootStatement::max_file));
    auto statement = parse_statement(file);
    if (!statement)
        return tl::make_unexpected(std::move(statement).error().within(options.file));
    if (!options.signature.empty()) {
        VTPM_TRY(statement->signature,
                 read_named_file(options.signature, BootStatement::max_signature));
    }
    if (statement->signature.empty()) {
        return fail(Errc::invalid_argument,
                    "there is no signature yet: openssl dgst -sha256 -sign YOUR-KEY.pem -out " +
                        options.file + ".sig " + options.file +
                        ".words; then give it with "
                        "--signature " +
                        options.file + ".sig");
    }
    return statement;
}

// A statement of another host or group would be refused for its signature, which tells nobody what
// is wrong. Gives it back with the name that the group has now.
Result<BootStatement> checked_against_host(ManagerConnection& manager, BootStatement statement,
                                           const std::string& group) {
    Request request;
    request.mutable_status();
    VTPM_TRY(const auto status, manager.ask(request));
    const std::string here = uuid_text(status.message.status().manager());
    if (here != statement.manager.to_string()) {
        return fail(Errc::invalid_argument, "this statement is for another host: for manager " +
                                                statement.manager.to_string() + "; this one is " +
                                                (here.empty() ? "not set up" : here));
    }
    const std::string selector = group.empty() ? statement.group.to_string() : group;
    auto asked = ask_statement(manager, selector, statement.pcrs, false);
    if (!asked && asked.error().code == Errc::not_found) {
        return fail(Errc::not_found, "this statement is for group " + statement.group_name + " (" +
                                         statement.group.to_string() +
                                         "), which is none of this host's");
    }
    if (!asked)
        return tl::make_unexpected(std::move(asked).error());
    if (asked->group != statement.group) {
        return fail(Errc::invalid_argument, "this statement is for group " + statement.group_name +
                                                " (" + statement.group.to_string() + "), not for " +
                                                asked->group_name);
    }
    if (statement.limit < asked->limit) {
        return fail(Errc::invalid_argument,
                    "this statement was revoked before it came here: write another");
    }
    if (statement.limit == asked->limit + 1) {
        VTPM_TRY(*asked, ask_statement(manager, selector, statement.pcrs, true));
    }
    if (statement.limit == asked->limit && statement.pcrs == asked->pcrs &&
        statement.words != asked->words) {
        return fail(Errc::invalid_argument,
                    "what this statement says is not what its words stand for: it was altered");
    }
    statement.group_name = asked->group_name;
    return statement;
}

}  // namespace

Result<void> set_approver(ManagerConnection& manager, const std::string& group,
                          const ApproverOptions& approver, Output output) {
    Request request;
    request.mutable_set_approver()->set_group(group);
    VTPM_CHECK(fill(*request.mutable_set_approver()->mutable_approver(), approver));
    VTPM_TRY(const auto answer, manager.ask(request));
    if (output.json) {
        print_json(to_json(answer.message.group()));
        return {};
    }
    std::cout << describe(answer.message.group());
    if (!approver.key.empty()) {
        std::cout << "Next, or the next start is locked: vtpmctl approve this-boot --group "
                  << answer.message.group().name() << "\n";
    }
    return {};
}

Result<void> approve_this_boot(ManagerConnection& manager, const ApproveOptions& options,
                               Output output) {
    if (options.legacy_tpm12)
        return approve_unsigned(manager, options, output);
    VTPM_TRY(BootStatement statement,
             ask_statement(manager, options.group, {}, options.after_revoke));
    const PcrValues now = statement.pcrs;
    return have_signed(manager, std::move(statement), now, options, output);
}

Result<void> approve_next(ManagerConnection& manager, const ApproveOptions& options,
                          Output output) {
    if (options.legacy_tpm12)
        return approve_unsigned(manager, options, output);
    VTPM_TRY(const BootStatement now, ask_statement(manager, options.group, {}, false));
    VTPM_TRY(const PcrValues values, next_values(options, now));
    VTPM_TRY(BootStatement statement,
             ask_statement(manager, options.group, values, options.after_revoke));
    return have_signed(manager, std::move(statement), now.pcrs, options, output);
}

Result<void> approve_import(ManagerConnection& manager, const ImportOptions& options,
                            Output output) {
    VTPM_TRY(BootStatement read, read_signed_statement(options));
    VTPM_TRY(const BootStatement statement,
             checked_against_host(manager, std::move(read), options.group));
    return send_approval(manager, statement, output);
}

Result<void> approve_list(ManagerConnection& manager, Output output) {
    VTPM_TRY(const auto groups, groups_of(manager));
    Request request;
    request.mutable_approvals();
    VTPM_TRY(const auto answer, manager.ask(request));
    const auto& all = answer.message.approvals().approval();
    if (!output.json) {
        std::cout << table(std::vector<wire::proto::Approval>(all.begin(), all.end()), groups);
        return {};
    }
    auto json = nlohmann::json::array();
    for (const auto& approval : all)
        json.push_back(to_json(approval, groups));
    print_json(json);
    return {};
}

Result<void> revoke(ManagerConnection& manager, bool forced, Output output) {
    Request request;
    request.mutable_revoke()->set_forced(forced);
    VTPM_TRY(const auto answer, manager.ask(request));
    (void)answer;
    if (output.json) {
        print_json({{"revoked", true}});
    } else {
        std::cout << "Revoked. What still counts: vtpmctl approve list\n";
    }
    return {};
}

}  // namespace vtpm::control
