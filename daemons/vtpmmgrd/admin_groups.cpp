// AdminSession's part about groups, who approves their boots, new keys, sync, and the journal.
#include "admin_session.h"
#include "key_keeper.h"
#include "translate.h"
#include "vtpm/base/log.h"

namespace vtpm::manager {
namespace {

constexpr int page_lines = 500;

}  // namespace

Result<AdminSession::Answer> AdminSession::answer_administration(
    const wire::proto::Request& request, const SecretBytes& payload) {
    using Request = wire::proto::Request;
    Answer done;
    done.message.mutable_done();
    switch (request.body_case()) {
        case Request::kUnlock:
            return unlock(payload);
        case Request::kCheckRecoveryKey:
            VTPM_CHECK(manager_.vault.check_recovery_key(payload));
            return done;
        case Request::kGroupList:
            return group_list();
        case Request::kGroupCreate:
            return group_create(request.group_create());
        case Request::kGroupOpen:
            return group_open(request.group_open());
        case Request::kGroupClose:
            return group_close(request.group_close());
        case Request::kGroupRemove:
            return group_remove(request.group_remove());
        case Request::kSetApprover:
            return set_approver(request.set_approver());
        case Request::kStatement:
            return statement(request.statement());
        case Request::kApprove:
            return approve(request.approve());
        case Request::kApprovals:
            return approvals();
        case Request::kRevoke:
            return revoke(request.revoke());
        case Request::kRotate:
            return rotate(request.rotate());
        case Request::kSetPolicy:
            return set_policy(request.set_policy());
        case Request::kSetSync:
            return set_sync(request.set_sync());
        case Request::kLog:
            return log(request.log());
        default:
            return answer_transfer(request, payload);
    }
}

Result<AdminSession::Answer> AdminSession::set_sync(const wire::proto::SetSync& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_TRY(const auto changed, manager_.vault.set_sync(found.uuid, request.sync()));
    spdlog::info("instance {} ({}): sync is {}", found.uuid.to_string(), found.name,
                 changed.sync ? "on" : "off");
    return describe(changed);
}

Result<AdminSession::Answer> AdminSession::group_list() {
    VTPM_TRY(const auto groups, manager_.vault.groups());
    Answer answer;
    auto& page = *answer.message.mutable_groups();
    for (const auto& group : groups)
        vtpm::manager::describe(group, *page.add_group());
    return answer;
}

Result<AdminSession::Answer> AdminSession::group_create(const wire::proto::GroupCreate& request) {
    VTPM_TRY(const auto wish, wish_of(request.approver()));
    VTPM_TRY(const auto group, manager_.vault.create_group(request.name(), wish));
    spdlog::info("group {} ({}) created", group.uuid.to_string(), group.name);
    Answer answer;
    keep_keys(answer);
    vtpm::manager::describe(group, *answer.message.mutable_group());
    return answer;
}

Result<AdminSession::Answer> AdminSession::group_open(const wire::proto::GroupSelect& request) {
    VTPM_TRY(const auto found, manager_.vault.find_group(request.group()));
    VTPM_TRY(const auto group, manager_.vault.open_group(found.uuid));
    spdlog::info("group {} ({}) opened", group.uuid.to_string(), group.name);
    Answer answer;
    keep_keys(answer);
    vtpm::manager::describe(group, *answer.message.mutable_group());
    return answer;
}

Result<void> AdminSession::not_in_use(const vault::Group& group) const {
    VTPM_TRY(const auto instances, manager_.vault.list());
    for (const auto& instance : instances) {
        if (instance.group == group.uuid)
            VTPM_CHECK(not_in_use(instance));
    }
    return {};
}

Result<AdminSession::Answer> AdminSession::group_close(const wire::proto::GroupSelect& request) {
    VTPM_TRY(const auto found, manager_.vault.find_group(request.group()));
    VTPM_CHECK(not_in_use(found));
    VTPM_TRY(const auto group, manager_.vault.close_group(found.uuid));
    spdlog::info("group {} ({}) closed", group.uuid.to_string(), group.name);
    Answer answer;
    keep_keys(answer);
    vtpm::manager::describe(group, *answer.message.mutable_group());
    return answer;
}

Result<AdminSession::Answer> AdminSession::group_remove(const wire::proto::GroupSelect& request) {
    VTPM_TRY(const auto found, manager_.vault.find_group(request.group()));
    VTPM_CHECK(manager_.vault.remove_group(found.uuid));
    spdlog::info("group {} ({}) deleted, its key destroyed", found.uuid.to_string(), found.name);
    Answer answer;
    keep_keys(answer);
    vtpm::manager::describe(found, *answer.message.mutable_group());
    return answer;
}

Result<AdminSession::Answer> AdminSession::set_approver(const wire::proto::SetApprover& request) {
    VTPM_TRY(const auto wish, wish_of(request.approver()));
    VTPM_TRY(const auto found, manager_.vault.find_group(request.group()));
    VTPM_TRY(const auto group, manager_.vault.set_approver(found.uuid, wish));
    spdlog::warn("group {} ({}): {}", group.uuid.to_string(), group.name,
                 group.approver.empty() ? "its key is given out on any boot from now on"
                                        : "its boots have a new approver");
    Answer answer;
    keep_keys(answer);
    vtpm::manager::describe(group, *answer.message.mutable_group());
    return answer;
}

Result<AdminSession::Answer> AdminSession::statement(
    const wire::proto::BootStatementQuery& request) {
    VTPM_TRY(const auto others, pcrs_of(request.other()));
    VTPM_TRY(const auto group, manager_.vault.find_group(request.group()));
    VTPM_TRY(const auto statement,
             manager_.vault.statement(group.uuid, others, request.outlives_revocation()));
    Answer answer;
    vtpm::manager::describe(statement, *answer.message.mutable_statement());
    return answer;
}

Result<AdminSession::Answer> AdminSession::approve(const wire::proto::Approve& request) {
    chip::Approval approval;
    VTPM_TRY(approval.pcrs, pcrs_of(request.pcr()));
    approval.limit = request.limit();
    approval.signature.assign(request.signature().begin(), request.signature().end());
    VTPM_TRY(const auto group, manager_.vault.find_group(request.group()));
    if (request.without_signature()) {
        VTPM_CHECK(manager_.vault.approve_unsigned(group.uuid, approval.pcrs));
    } else {
        VTPM_CHECK(manager_.vault.approve(group.uuid, approval));
    }
    spdlog::info("a boot was approved for group {} ({})", group.uuid.to_string(), group.name);
    try_unlock(manager_);  // it may be this one that was waited for
    Answer answer;
    answer.message.mutable_done();
    return answer;
}

Result<AdminSession::Answer> AdminSession::approvals() {
    VTPM_TRY(const auto all, manager_.vault.approvals());
    Answer answer;
    auto& page = *answer.message.mutable_approvals();
    for (const auto& stored : all)
        vtpm::manager::describe(stored, *page.add_approval());
    return answer;
}

Result<AdminSession::Answer> AdminSession::revoke(const wire::proto::Revoke& request) {
    VTPM_CHECK(manager_.vault.revoke(request.forced()));
    spdlog::warn("approvals revoked by an operator");
    Answer answer;
    answer.message.mutable_done();
    return answer;
}

Result<AdminSession::Answer> AdminSession::log(const wire::proto::Log& request) {
    VTPM_TRY(const auto events, manager_.vault.journal(request.after(), page_lines + 1));
    Answer answer;
    auto& page = *answer.message.mutable_log();
    // Lines of a damaged journal may be longer than ours, and a page has to fit into a message.
    std::size_t size = 0;
    for (const auto& event : events) {
        if (page.line_size() == page_lines || size > wire::max_message_size / 2)
            break;
        auto& line = *page.add_line();
        vtpm::manager::describe(event, line);
        size += line.ByteSizeLong();
    }
    page.set_more(page.line_size() < static_cast<int>(events.size()));
    return answer;
}

Result<AdminSession::Answer> AdminSession::rotate(const wire::proto::Rotate& request) {
    using Rotate = wire::proto::Rotate;
    Answer answer;
    if (request.what_case() == Rotate::kInstance) {
        VTPM_TRY(const auto found, manager_.vault.find(request.instance()));
        VTPM_CHECK(not_in_use(found));
        VTPM_TRY(const auto rotated, manager_.vault.rotate_instance(found.uuid));
        return describe(rotated);
    }
    if (request.what_case() == Rotate::kGroup) {
        VTPM_TRY(const auto group, manager_.vault.find_group(request.group()));
        VTPM_TRY(const auto rotated, manager_.vault.rotate_group(group.uuid));
        vtpm::manager::describe(rotated, *answer.message.mutable_group());
    } else {
        VTPM_CHECK(manager_.vault.rotate_root());
        answer.message.mutable_done();
    }
    keep_keys(answer);
    return answer;
}

}  // namespace vtpm::manager
