// AdminSession's part about snapshots, reverts and clones.
#include "admin_session.h"
#include "translate.h"
#include "vtpm/base/log.h"
#include "vtpm/wire/failure.h"

namespace vtpm::manager {

Result<AdminSession::Answer> AdminSession::answer_snapshots(const wire::proto::Request& request) {
    using Request = wire::proto::Request;
    switch (request.body_case()) {
        case Request::kTakeSnapshot:
            return take_snapshot(request.take_snapshot());
        case Request::kRemoveSnapshot:
            return remove_snapshot(request.remove_snapshot());
        case Request::kRevert:
            return revert(request.revert());
        case Request::kSnapshots:
            return snapshots(request.snapshots());
        case Request::kClone:
            return clone(request.clone());
        default:
            return fail(Errc::malformed, "a request of no known kind");
    }
}

// A running TPM's state on the disk is not all that its guest has been told.
Result<AdminSession::Answer> AdminSession::take_snapshot(
    const wire::proto::SnapshotSelect& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_CHECK(not_in_use(found));
    VTPM_TRY(const auto kept, manager_.vault.take_snapshot(found.uuid, request.snapshot()));
    spdlog::info("instance {} ({}): snapshot {} taken", kept.uuid.to_string(), kept.name,
                 request.snapshot());
    return describe(kept);
}

Result<AdminSession::Answer> AdminSession::remove_snapshot(
    const wire::proto::SnapshotSelect& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_TRY(const auto left, manager_.vault.remove_snapshot(found.uuid, request.snapshot()));
    spdlog::info("instance {} ({}): snapshot {} deleted", left.uuid.to_string(), left.name,
                 request.snapshot());
    return describe(left);
}

Result<AdminSession::Answer> AdminSession::revert(const wire::proto::SnapshotSelect& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_CHECK(not_in_use(found));
    VTPM_TRY(const auto reverted, manager_.vault.revert(found.uuid, request.snapshot()));
    spdlog::warn(
        "instance {} ({}) reverted to snapshot {}, on an operator's word; that was revert {}",
        reverted.uuid.to_string(), reverted.name, request.snapshot(), reverted.reverts);
    return describe(reverted);
}

Result<AdminSession::Answer> AdminSession::snapshots(const wire::proto::Select& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    VTPM_TRY(const auto kept, manager_.vault.snapshots(found.uuid));
    Answer answer;
    auto& page = *answer.message.mutable_snapshots();
    describe(found, *page.mutable_instance());
    for (const auto& snapshot : kept) {
        auto& into = *page.add_snapshot();
        into.set_name(wire::printable(snapshot.name));
        into.set_made(snapshot.made);
        into.set_sequence(snapshot.sequence);
        into.set_bytes(snapshot.bytes);
    }
    return answer;
}

// Of a snapshot, which nobody changes, while the guest runs, too.
Result<AdminSession::Answer> AdminSession::clone(const wire::proto::Clone& request) {
    VTPM_TRY(const auto found, manager_.vault.find(request.selector()));
    if (request.snapshot().empty())
        VTPM_CHECK(not_in_use(found));
    vault::CloneWish wish{request.name(), std::nullopt, request.snapshot()};
    if (!request.uuid().empty()) {
        VTPM_TRY(wish.uuid, Uuid::from_bytes(as_bytes(request.uuid())));
    }
    VTPM_TRY(const auto made, manager_.vault.clone(found.uuid, wish));
    spdlog::warn("instance {} ({}) cloned from {} ({}): two TPMs with the same seeds",
                 made.uuid.to_string(), made.name, found.uuid.to_string(), found.name);
    return describe(made);
}

}  // namespace vtpm::manager
