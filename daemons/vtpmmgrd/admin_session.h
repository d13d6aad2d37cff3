// AdminSession: one connection of vtpmctl or vtpmd. Requests are answered one after another; an
// Open makes the connection the holder of an instance until it closes.
#pragma once

#include <memory>
#include <optional>

#include "manager.h"
#include "vtpm/base/uuid.h"
#include "vtpm/wire/async_channel.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::manager {

class AdminSession : public std::enable_shared_from_this<AdminSession> {
  public:
    AdminSession(Manager& manager, wire::AsyncChannel::Socket socket);

    void start() { receive(); }

  private:
    struct Answer {
        wire::proto::Reply message;
        SecretBytes payload;
        Fd descriptor;
    };

    void receive();
    void on_frame(Result<wire::Frame> frame);
    void end();
    void reply(Result<Answer> answered);
    std::optional<Result<Answer>> answer_meanwhile(const wire::Frame& frame);
    void answer_later(wire::Frame frame);
    static Result<wire::proto::Request> request_in(const wire::Frame& frame);
    Result<Answer> answer(const wire::Frame& frame);

    Result<Answer> setup(const wire::proto::Setup& request);
    // `state`: the permanent state of a TPM that has lived elsewhere; none: a new TPM.
    Result<Answer> create(const wire::proto::Create& request, std::optional<SecretBytes> state);
    Result<Answer> list(const wire::proto::List& request);
    Result<Answer> show(const wire::proto::Select& request);
    Result<Answer> rename(const wire::proto::Rename& request);
    Result<Answer> set_policy(const wire::proto::SetPolicy& request);
    Result<Answer> remove(const wire::proto::Select& request);
    Result<Answer> status();
    Result<Answer> status_with_keys_kept();
    Result<Answer> recover(const SecretBytes& recovery_key);
    Result<Answer> unlock(const SecretBytes& recovery_key);
    Result<Answer> open(const wire::proto::Open& request);
    Result<Answer> attach_engine(const wire::proto::AttachEngine& request);
    Result<Answer> tell_power(const wire::proto::TellPower& request);

    // admin_groups.cpp
    Result<Answer> set_sync(const wire::proto::SetSync& request);
    Result<Answer> group_list();
    Result<Answer> group_create(const wire::proto::GroupCreate& request);
    Result<Answer> group_open(const wire::proto::GroupSelect& request);
    Result<Answer> group_close(const wire::proto::GroupSelect& request);
    Result<Answer> group_remove(const wire::proto::GroupSelect& request);
    Result<Answer> set_approver(const wire::proto::SetApprover& request);
    Result<Answer> statement(const wire::proto::BootStatementQuery& request);
    Result<Answer> approve(const wire::proto::Approve& request);
    Result<Answer> approvals();
    Result<Answer> revoke(const wire::proto::Revoke& request);
    Result<Answer> rotate(const wire::proto::Rotate& request);
    Result<Answer> log(const wire::proto::Log& request);

    // admin_transfer.cpp
    Result<Answer> answer_transfer(const wire::proto::Request& request, const SecretBytes& payload);
    Result<Answer> ticket(const wire::proto::GroupSelect& request);
    Result<Answer> export_instance(const wire::proto::ExportInstance& request,
                                   const SecretBytes& ticket);
    Result<Answer> confirm_export(const wire::proto::Select& request, const SecretBytes& receipt);
    Result<Answer> abort_export(const wire::proto::Select& request);
    Result<Answer> import_package(const wire::proto::ImportPackage& request,
                                  const SecretBytes& package);
    Result<Answer> backup();
    Answer moved(const vault::Instance& instance) const;

    // admin_snapshots.cpp
    Result<Answer> answer_snapshots(const wire::proto::Request& request);
    Result<Answer> take_snapshot(const wire::proto::SnapshotSelect& request);
    Result<Answer> remove_snapshot(const wire::proto::SnapshotSelect& request);
    Result<Answer> revert(const wire::proto::SnapshotSelect& request);
    Result<Answer> snapshots(const wire::proto::Select& request);
    Result<Answer> clone(const wire::proto::Clone& request);

    // Leaves the keys, which have changed, to the next vtpmmgrd; if that fails, the answer says so.
    void keep_keys(Answer& answer);
    Result<Answer> answer_administration(const wire::proto::Request& request,
                                         const SecretBytes& payload);
    Result<void> not_in_use(const vault::Instance& instance) const;
    Result<void> not_in_use(const vault::Group& group) const;
    Result<vault::Instance> instance_to_open(const Uuid& uuid);
    Answer describe(const vault::Instance& instance) const;
    void describe(const vault::Instance& instance, wire::proto::Instance& into) const;

    Manager& manager_;
    std::shared_ptr<wire::AsyncChannel> channel_;
    boost::asio::any_io_executor executor_;
    std::optional<Uuid> held_;
};

}  // namespace vtpm::manager
