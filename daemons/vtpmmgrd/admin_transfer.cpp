// AdminSession's part about instances that move to another manager, and about backups.
#include <sys/stat.h>

#include <cerrno>

#include "admin_session.h"
#include "translate.h"
#include "vtpm/base/log.h"

namespace vtpm::manager {
namespace {

void set(std::string& field, const Uuid& uuid) {
    field.assign(uuid.bytes().begin(), uuid.bytes().end());
}

}  // namespace

Result<AdminSession::Answer> AdminSession::answer_transfer(const wire::proto::Request& request,
                                                           const SecretBytes& payload) {
    using Request = wire::proto::Request;
    switch (request.body_case()) {
        case Request::kTicket:
            return ticket(request.ticket());
        case Request::kExportInstance:
            return export_instance(request.export_instance(), payload);
        case Request::kConfirmExport:
            return confirm_export(request.confirm_export(), payload);
        case Request::kAbortExport:
            return abort_export(request.abort_export());
        case Request::kImportPackage:
            return import_package(request.import_package(), payload);
        case Request::kBackup:
            return backup();
        default:
            return answer_snapshots(request);
    }
}

Result<AdminSession::Answer> AdminSession::ticket(const wire::proto::GroupSelect& request) {
    VTPM_TRY(const auto group, manager_.vault.find_group(request.group()));
    VTPM_TRY(const auto made, manager_.vault.make_ticket(group.uuid));
    Answer answer;
    auto& ticket = *answer.message.mutable_ticket();
    set(*ticket.mutable_manager(), made.manager);
    vtpm::manager::describe(group, *ticket.mutable_group());
    ticket.set_expires(made.expires);
    ticket.set_fingerprint(vault::fingerprint(made.bytes));
    answer.payload = SecretBytes::copy_of(made.bytes);
    return answer;
}

AdminSession::Answer AdminSession::moved(const vault::Instance& instance) const {
    Answer answer;
    auto& moved = *answer.message.mutable_moved();
    describe(instance, *moved.mutable_instance());
    set(*moved.mutable_peer(), instance.peer);
    return answer;
}

Result<AdminSession::Answer> AdminSession::export_instance(
    const wire::proto::ExportInstance& request, const SecretBytes& ticket) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_CHECK(not_in_use(found));
    VTPM_TRY(const auto exported,
             manager_.vault.export_instance(found.uuid, ticket.view(), request.leave_snapshots()));
    spdlog::warn("instance {} ({}) exported to manager {}", found.uuid.to_string(), found.name,
                 exported.instance.peer.to_string());
    Answer answer = moved(exported.instance);
    answer.message.mutable_moved()->set_ticket(vault::fingerprint(ticket.view()));
    answer.message.mutable_moved()->set_package(vault::fingerprint(exported.package));
    answer.payload = SecretBytes::copy_of(exported.package);
    return answer;
}

Result<AdminSession::Answer> AdminSession::confirm_export(const wire::proto::Select& request,
                                                          const SecretBytes& receipt) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_TRY(const auto gone, manager_.vault.confirm_export(found.uuid, receipt.view()));
    spdlog::info("instance {} ({}) is at manager {}; its key here is destroyed",
                 gone.uuid.to_string(), gone.name, gone.peer.to_string());
    return moved(gone);
}

Result<AdminSession::Answer> AdminSession::abort_export(const wire::proto::Select& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_TRY(auto back, manager_.vault.abort_export(found.uuid));
    spdlog::warn(
        "instance {} ({}) lives here again, on an operator's word; it was exported to "
        "manager {}",
        back.uuid.to_string(), back.name, found.peer.to_string());
    Answer answer = moved(back);
    set(*answer.message.mutable_moved()->mutable_peer(), found.peer);
    return answer;
}

Result<AdminSession::Answer> AdminSession::import_package(const wire::proto::ImportPackage& request,
                                                          const SecretBytes& package) {
    VTPM_TRY(const auto facts, vault::read_package(package.view()));
    VTPM_CHECK(tpm::version_from_number(facts.tpm));
    Bytes policy;
    if (!request.again()) {  // else it has one
        VTPM_TRY(policy, policy_of_package(facts));
    }
    VTPM_TRY(const auto imported, request.again() ? manager_.vault.receipt_again(package.view())
                                                  : manager_.vault.import_package(
                                                        package.view(), request.name(), policy));
    spdlog::warn("instance {} ({}) imported from manager {}{}", imported.instance.uuid.to_string(),
                 imported.instance.name, imported.instance.peer.to_string(),
                 request.again() ? ": its receipt again" : "");
    Answer answer = moved(imported.instance);
    answer.message.mutable_moved()->set_package(vault::fingerprint(package.view()));
    answer.payload = SecretBytes::copy_of(imported.receipt);
    return answer;
}

Result<AdminSession::Answer> AdminSession::backup() {
    Answer answer;
    VTPM_TRY(answer.descriptor, manager_.vault.backup());
    struct stat facts {};
    if (::fstat(answer.descriptor.get(), &facts) != 0)
        return fail_errno("the copy of the vault", errno);
    answer.message.mutable_backup()->set_size(static_cast<std::uint64_t>(facts.st_size));
    spdlog::info("a backup was given out, {} bytes", facts.st_size);
    return answer;
}

}  // namespace vtpm::manager
