// vtpmctl's and vtpmd's side of vtpmmgrd's socket: requests of every kind on several connections,
// mostly such as a person or a vtpmd would send, with names that do and do not exist, and tickets,
// packages, receipts and keys that are the right ones, the wrong ones, and damaged ones.
#include "manager_world.h"

using namespace vtpm;
using namespace vtpm::fuzz;
using namespace vtpm::wire::proto;

namespace {

constexpr const char* approver_pem =
    "-----BEGIN PUBLIC KEY-----\n"
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEG11UEu8+YChbZrQ/T4rtLJB0KalJ\n"
    "COEcUeeRtGgkJ3gFAHRzLlDNp25CAz3it4k76c1b7PDdUwAeG1R4gKz54g==\n"
    "-----END PUBLIC KEY-----\n";

class Clients {
  public:
    Clients(Input& input, World& world) : input_(input), world_(world) {
        for (auto& client : clients_)
            client = world.connect();
    }

    void act() {
        Fd& client = clients_.at(input_.pick(clients_.size()));
        if (input_.rarely()) {
            noise(client);
            client = world_.connect();
            return;
        }
        Request request = ordinary();
        request.set_protocol(input_.rarely() ? input_.u8() : wire::protocol_version);
        request.set_caller(input_.rarely() ? text() : "root");
        const auto frame = world_.exchange(client, World::frame(request, payload_));
        const auto reply = reply_in(frame);
        must(reply.has_value(), "a request without an answer");
        if (reply->has_attached())
            must(frame->descriptor.valid(), "no channel for an engine");
        keep(*reply, frame->payload.view());
    }

    bool was_bound() const { return bound_; }

  private:
    std::string name() {
        static const std::array names = {"alpha", "beta", "gamma", "delta", "epsilon",
                                         "zeta",  "eta",  "theta", "new",   "tenant"};
        return input_.rarely() ? text() : names[input_.pick(names.size())];
    }
    // Valid UTF-8, for else there would be no request.
    std::string text() {
        std::string text = input_.text(100);
        for (char& c : text)
            c = static_cast<char>(c & 0x7f);
        return text;
    }
    std::string uuid() {
        const auto& all = Prepared::get().uuids;
        auto chosen = all.begin();
        std::advance(chosen, static_cast<std::ptrdiff_t>(input_.pick(all.size())));
        if (input_.rarely())
            return text();
        const auto bytes = chosen->second.bytes();
        return {bytes.begin(), bytes.end()};
    }
    std::string selector() {
        if (!input_.rarely())
            return name();
        const auto parsed = Uuid::from_bytes(as_bytes(uuid()));
        return parsed.value_or(Uuid()).to_string().substr(0, input_.u8() % 40U);
    }
    std::string group() { return input_.flag() ? (input_.flag() ? "tenant" : name()) : ""; }
    void approver(Approver& into) {
        if (!input_.rarely())
            return;
        into.set_key(input_.rarely() ? text() : approver_pem);
        for (std::size_t i = input_.pick(4); i > 0; --i)
            into.add_pcr(input_.rarely() ? input_.u32() : input_.u8() % 24U);
        bound_ = true;
    }
    template <typename Field>
    void pcrs(Field& field) {
        for (std::size_t i = input_.pick(4); i > 0; --i) {
            Pcr& pcr = *field.Add();
            pcr.set_number(input_.rarely() ? input_.u32() : input_.u8() % 24U);
            pcr.set_value(std::string(input_.rarely() ? input_.u8() : 32U, 'p'));
        }
    }
    void carry(const Bytes& file) { payload_ = input_.rarely_changed(file); }

    Request ordinary() {
        const Prepared& prepared = Prepared::get();
        payload_ = input_.rarely() ? input_.bytes(500) : Bytes();
        Request request;
        switch (input_.pick(38)) {
            case 0:
                request.mutable_setup()->set_replace(input_.rarely());
                request.mutable_setup()->set_recovery_public(input_.flag() ? approver_pem : text());
                approver(*request.mutable_setup()->mutable_approver());
                break;
            case 1:
            case 2: {
                const bool from_elsewhere = input_.rarely();
                auto& create = from_elsewhere ? *request.mutable_create_with_state()
                                              : *request.mutable_create();
                create.set_name(name());
                create.set_tpm(input_.rarely() ? input_.u32() : 1U + input_.u8() % 2U);
                create.set_uuid(input_.flag() ? uuid() : "");
                create.set_group(group());
                create.set_sync(input_.rarely());
                if (from_elsewhere)
                    payload_ = Bytes(input_.edgy() % 600'000, 0x33);
                break;
            }
            case 3:
                request.mutable_list()->set_after(input_.flag() ? uuid() : "");
                break;
            case 4:
                request.mutable_show()->set_selector(selector());
                break;
            case 5:
                request.mutable_rename()->set_selector(selector());
                request.mutable_rename()->set_name(input_.flag() ? name() : text());
                break;
            case 6:
                request.mutable_remove()->set_selector(selector());
                break;
            case 7:
                request.mutable_status();
                break;
            case 8:
            case 9:
                request.mutable_open()->set_uuid(uuid());
                request.mutable_open()->set_domain(input_.u8());
                request.mutable_open()->set_device(input_.u8());
                break;
            case 10:
                if (input_.flag())
                    power(*request.mutable_attach_engine()->mutable_power());
                request.mutable_attach_engine();
                break;
            case 11:
                request.mutable_recover();
                carry(prepared.recovery_key);
                break;
            case 12:
                request.mutable_unlock();
                carry(prepared.recovery_key);
                break;
            case 13:
                request.mutable_check_recovery_key();
                carry(prepared.recovery_key);
                break;
            case 14:
            case 15:
            case 16:
            case 17:
            case 18:
                snapshots(request);
                break;
            default:
                administration(request, prepared);
        }
        return request;
    }

    void power(Power& into) {
        into.set_beginning(text());
        into.set_since(static_cast<std::int64_t>(input_.u8()));
        into.set_engines(input_.rarely() ? input_.u32() : input_.u8());
        into.set_why(text());
        into.set_handed_over(static_cast<std::int64_t>(input_.u64()));
    }

    // The instances' names are as good as any.
    void snapshots(Request& request) {
        switch (input_.pick(5)) {
            case 0:
                request.mutable_take_snapshot()->set_selector(selector());
                request.mutable_take_snapshot()->set_snapshot(name());
                break;
            case 1:
                request.mutable_remove_snapshot()->set_selector(selector());
                request.mutable_remove_snapshot()->set_snapshot(name());
                break;
            case 2:
                request.mutable_revert()->set_selector(selector());
                request.mutable_revert()->set_snapshot(name());
                break;
            case 3:
                request.mutable_snapshots()->set_selector(selector());
                break;
            default:
                request.mutable_clone()->set_selector(selector());
                request.mutable_clone()->set_snapshot(input_.flag() ? name() : "");
                request.mutable_clone()->set_name(name());
                request.mutable_clone()->set_uuid(input_.rarely() ? uuid() : "");
        }
    }

    void administration(Request& request, const Prepared& prepared) {
        switch (input_.pick(20)) {
            case 0:
                request.mutable_group_list();
                break;
            case 1:
                request.mutable_group_create()->set_name(name());
                approver(*request.mutable_group_create()->mutable_approver());
                break;
            case 2:
                request.mutable_group_open()->set_group(group());
                break;
            case 3:
                request.mutable_group_close()->set_group(group());
                break;
            case 4:
                request.mutable_group_remove()->set_group(group());
                break;
            case 5:
                request.mutable_set_approver()->set_group(group());
                approver(*request.mutable_set_approver()->mutable_approver());
                break;
            case 6:
                request.mutable_statement()->set_group(group());
                pcrs(*request.mutable_statement()->mutable_other());
                break;
            case 7:
                request.mutable_approve()->set_group(group());
                pcrs(*request.mutable_approve()->mutable_pcr());
                request.mutable_approve()->set_limit(input_.u64());
                request.mutable_approve()->set_signature(input_.text(100));
                break;
            case 8:
                request.mutable_approvals();
                break;
            case 9:
                request.mutable_revoke()->set_forced(input_.flag());
                break;
            case 10:
                if (input_.flag()) {
                    request.mutable_rotate()->set_instance(selector());
                } else if (input_.flag()) {
                    request.mutable_rotate()->set_group(group());
                } else {
                    request.mutable_rotate()->set_root(true);
                }
                break;
            case 11:
                request.mutable_log()->set_after(input_.flag() ? input_.u64() : input_.u8());
                break;
            case 12:
                request.mutable_ticket()->set_group(group());
                break;
            case 13:
            case 14:
                request.mutable_export_instance()->set_selector(selector());
                request.mutable_export_instance()->set_leave_snapshots(input_.flag());
                carry(input_.flag() || ticket_.empty() ? prepared.ticket : ticket_);
                break;
            case 15:
                request.mutable_confirm_export()->set_selector(selector());
                carry(input_.flag() || receipt_.empty() ? prepared.receipt : receipt_);
                break;
            case 16:
                request.mutable_abort_export()->set_selector(selector());
                break;
            case 17:
            case 18: {
                auto& import = *request.mutable_import_package();
                import.set_name(input_.flag() ? name() : "");
                import.set_again(input_.rarely());
                carry(input_.flag()      ? prepared.package
                      : package_.empty() ? prepared.imported
                                         : package_);
                break;
            }
            default:
                request.mutable_backup();
        }
    }

    // What this manager gave out is brought back to it later.
    void keep(const Reply& reply, ByteView payload) {
        Bytes file(payload.begin(), payload.end());
        if (reply.has_ticket())
            ticket_ = std::move(file);
        else if (reply.has_moved() && reply.moved().ticket().empty())
            receipt_ = std::move(file);
        else if (reply.has_moved())
            package_ = std::move(file);
    }

    void noise(const Fd& client) {
        const Bytes frame = World::frame(ordinary(), payload_);
        (void)reply_in(
            world_.exchange(client, input_.flag() ? input_.changed(frame) : input_.bytes(300)));
    }

    Input& input_;
    World& world_;
    std::array<Fd, 3> clients_;
    Bytes payload_;
    Bytes ticket_;
    Bytes receipt_;
    Bytes package_;
    bool bound_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    spdlog::set_level(spdlog::level::off);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    World world;
    world.settings().auto_create = input.rarely();
    Clients clients(input, world);
    for (int turn = 0; turn < 60 && !input.empty(); ++turn)
        clients.act();
    const bool open = world.vault().status().phase == vault::Phase::open;
    must(open, "requests have locked the vault");
    const auto before = sure(world.vault().list()).size();
    if (clients.was_bound())
        return 0;  // nobody approves boots here
    must(world.reopen(), "the vault does not open again");
    must(sure(world.vault().list()).size() == before, "another number of instances");
    must(world.vault().status().quarantined == 0, "an instance was spoilt");
    return 0;
}
