#include "translate.h"

#include <algorithm>

#include "vtpm/tpm/command_policy.h"
#include "vtpm/tpm/factory.h"
#include "vtpm/wire/failure.h"

namespace vtpm::manager {
namespace {

std::string_view to_string(vault::InstanceState state) {
    switch (state) {
        case vault::InstanceState::live:
            return "live";
        case vault::InstanceState::exported:
            return "exported";
        case vault::InstanceState::deleted:
            return "deleted";
        case vault::InstanceState::quarantined:
            return "quarantined";
    }
    return "unknown";
}

std::string_view to_string(vault::Phase phase) {
    switch (phase) {
        case vault::Phase::not_set_up:
            return "not-set-up";
        case vault::Phase::locked:
            return "locked";
        case vault::Phase::open:
            return "open";
    }
    return "unknown";
}

std::string_view to_string(vault::LatchState latch) {
    switch (latch) {
        case vault::LatchState::none:
            return "none";
        case vault::LatchState::open:
            return "open";
        case vault::LatchState::closed:
            return "closed";
    }
    return "unknown";
}

void describe(const chip::PcrValues& pcrs,
              google::protobuf::RepeatedPtrField<wire::proto::Pcr>& into) {
    for (const auto& [number, value] : pcrs) {
        auto& pcr = *into.Add();
        pcr.set_number(number);
        pcr.set_value(value.data(), value.size());
    }
}

}  // namespace

void describe(const vault::Instance& instance, wire::proto::Instance& into) {
    into.set_uuid(instance.uuid.bytes().data(), Uuid::size);
    into.set_name(wire::printable(instance.name));
    into.set_tpm(instance.tpm);
    into.set_state(std::string(to_string(instance.state)));
    into.set_group(instance.group.bytes().data(), Uuid::size);
    into.set_generation(instance.generation);
    into.set_sequence(instance.sequence);
    into.set_created(instance.created);
    into.set_committed(instance.committed);
    into.set_bytes_stored(instance.bytes);
    into.set_sync(instance.sync);
    into.set_reverts(instance.reverts);
    into.set_clones(instance.clones);
    if (!instance.origin.is_nil())
        into.set_origin(instance.origin.bytes().data(), Uuid::size);
    into.set_snapshots(instance.snapshots);
    into.set_snapshot_bytes(instance.snapshot_bytes);
    if (instance.moved == 0)
        return;
    into.set_peer(instance.peer.bytes().data(), Uuid::size);
    into.set_moved(instance.moved);
}

void describe(const vault::Status& status, wire::proto::Status& into) {
    into.set_phase(std::string(to_string(status.phase)));
    if (status.reason)
        *into.mutable_reason() = wire::to_message(*status.reason);
    if (!status.manager.is_nil())
        into.set_manager(status.manager.bytes().data(), Uuid::size);
    into.set_chip(wire::printable(status.chip));
    into.set_binding(status.binding);
    for (const auto& limit : status.limits)
        into.add_limit(limit);
    into.set_latch(std::string(to_string(status.latch)));
    into.set_groups(status.groups);
    into.set_closed_groups(status.closed_groups);
    into.set_instances(status.instances);
    into.set_snapshot_bytes(status.snapshot_bytes);
    into.set_last_commit(status.last_commit);
    into.set_recovery(status.recovery);
    into.set_format(status.format);
    if (!status.freshness)
        return;
    auto& fresh = *into.mutable_freshness();
    fresh.set_epoch(status.freshness->epoch);
    fresh.set_committed(status.freshness->committed);
    fresh.set_writes(status.freshness->writes);
    fresh.set_tokens(status.freshness->tokens);
    fresh.set_chip_writes(status.freshness->chip_writes);
    fresh.set_recoveries(status.freshness->recoveries);
}

void describe(const vault::Group& group, wire::proto::Group& into) {
    into.set_uuid(group.uuid.bytes().data(), Uuid::size);
    into.set_name(wire::printable(group.name));
    into.set_is_default(group.is_default);
    into.set_open(group.open);
    if (group.reason)
        *into.mutable_reason() = wire::to_message(*group.reason);
    into.set_approver(group.approver.data(), group.approver.size());
    for (const std::uint8_t number : group.pcrs)
        into.add_pcr(number);
    into.set_generation(group.generation);
    into.set_instances(group.instances);
}

void describe(const vault::BootStatement& statement, wire::proto::BootStatement& into) {
    into.set_manager(statement.manager.bytes().data(), Uuid::size);
    describe(statement.group, *into.mutable_group());
    describe(statement.pcrs, *into.mutable_pcr());
    into.set_limit(statement.limit);
    into.set_counter(statement.counter);
    into.set_words(statement.words.data(), statement.words.size());
}

void describe(const vault::StoredApproval& stored, wire::proto::Approval& into) {
    into.set_group(stored.group.bytes().data(), Uuid::size);
    into.set_made(stored.made);
    describe(stored.approval.pcrs, *into.mutable_pcr());
    into.set_limit(stored.approval.limit);
    into.set_revoked(stored.revoked);
    into.set_this_boot(stored.this_boot);
}

void describe(const vault::Event& event, wire::proto::LogLine& into) {
    into.set_number(event.number);
    into.set_at(event.at);
    into.set_actor(wire::printable(event.actor));
    into.set_action(wire::printable(event.action));
    into.set_subject(wire::printable(event.subject));
    into.set_sound(event.sound);
}

Result<vault::ApproverWish> wish_of(const wire::proto::Approver& approver) {
    vault::ApproverWish wish;
    wish.key = approver.key();
    for (const std::uint32_t number : approver.pcr()) {
        if (number > chip::Chip::max_pcr)
            return fail(Errc::invalid_argument, "there is no PCR " + std::to_string(number));
        wish.pcrs.push_back(static_cast<std::uint8_t>(number));
    }
    return wish;
}

Result<Bytes> policy_bytes(const wire::proto::CommandPolicy& policy) {
    using tpm::CommandPolicy;
    if (policy.denied_size() > static_cast<int>(CommandPolicy::max_denied))
        return fail(Errc::too_large, "a policy denies no more than " +
                                         std::to_string(CommandPolicy::max_denied) + " commands");
    if ((policy.localities() & ~std::uint32_t{CommandPolicy::possible_localities}) != 0)
        return fail(Errc::invalid_argument, "a guest's localities are 0 to 3");
    VTPM_CHECK(tpm::pcr_banks_of(std::vector(policy.bank().begin(), policy.bank().end())));
    const std::string bytes = policy.SerializeAsString();
    return Bytes(bytes.begin(), bytes.end());
}

Result<Bytes> policy_of_new(const wire::proto::Create& request, bool has_state) {
    if (request.bank_size() == 0)
        return Bytes();
    if (request.tpm() != static_cast<std::uint32_t>(tpm::Version::v2_0) || has_state)
        return fail(Errc::invalid_argument, "PCR banks are chosen for a TPM 2.0 that is made here");
    wire::proto::CommandPolicy policy;
    *policy.mutable_bank() = request.bank();
    return policy_bytes(policy);
}

Result<wire::proto::CommandPolicy> policy_of(const vault::Instance& instance) {
    wire::proto::CommandPolicy policy;
    const auto& bytes = instance.policy;
    if (!policy.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
        return fail(Errc::corrupt, "instance " + instance.name + " has an unreadable policy");
    return policy;
}

Result<Bytes> policy_of_package(const vault::PackageFacts& facts) {
    wire::proto::CommandPolicy said;
    if (!said.ParseFromArray(facts.policy.data(), static_cast<int>(facts.policy.size())))
        return fail(Errc::malformed, "the package's command policy cannot be read");
    wire::proto::CommandPolicy taken;
    *taken.mutable_denied() = said.denied();
    taken.set_localities(said.localities());
    *taken.mutable_bank() = said.bank();
    // What else there is may deny something.
    auto known = taken;
    known.set_vendor(said.vendor());
    known.set_maintenance(said.maintenance());
    if (known.ByteSizeLong() != said.ByteSizeLong())
        return fail(Errc::unsupported,
                    "the package's command policy says something that this version does not know");
    return policy_bytes(taken);
}

Result<chip::PcrValues> pcrs_of(
    const google::protobuf::RepeatedPtrField<wire::proto::Pcr>& values) {
    chip::PcrValues pcrs;
    for (const auto& pcr : values) {
        chip::Digest value{};
        if (pcr.number() > chip::Chip::max_pcr || pcr.value().size() != value.size()) {
            return fail(Errc::invalid_argument,
                        "a PCR is 0 to 23, and its value has 32 bytes (SHA-256)");
        }
        std::copy(pcr.value().begin(), pcr.value().end(), value.begin());
        pcrs[static_cast<std::uint8_t>(pcr.number())] = value;
    }
    return pcrs;
}

}  // namespace vtpm::manager
