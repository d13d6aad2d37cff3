#include "vtpm/xen/device_nodes.h"

#include "vtpm/xen/store_number.h"

namespace vtpm::xen {

namespace {

constexpr const char* own_token = "own";
constexpr const char* frontend_token = "frontend";
constexpr const char* domains_token = "domains";

// Names the key, never the guest's bytes.
tl::unexpected<Error> malformed(const std::string& key) {
    return fail(Errc::malformed, NextAction::refuse, key + " is missing or malformed");
}

}  // namespace

DeviceNodes::DeviceNodes(Store& store, DomainId domid, std::uint32_t devid)
    : store_(store),
      domid_(domid),
      own_("backend/vtpm/" + std::to_string(domid) + "/" + std::to_string(devid)),
      error_("error/" + own_) {}

Result<void> DeviceNodes::watch() {
    VTPM_CHECK(store_.watch(own_, own_token));
    return store_.watch("@releaseDomain", domains_token);
}

Result<Uuid> DeviceNodes::identify() {
    VTPM_TRY(const auto there, store_.exists(own_));
    if (!there)
        return fail(Errc::not_found, "no device at " + own_);
    VTPM_TRY(const auto frontend_id, store_.read(own_ + "/frontend-id"));
    if (parse_store_number(frontend_id.value_or("")) != domid_)
        return malformed("frontend-id");

    // The path is libxl's, but what lies there is the guest's: it must not lie anywhere else.
    VTPM_TRY(const auto frontend, store_.read(own_ + "/frontend"));
    const auto home = "/local/domain/" + std::to_string(domid_) + "/";
    if (!frontend || !frontend->starts_with(home))
        return malformed("frontend");
    frontend_ = *frontend;
    // The state alone: nothing else that the guest writes is worth a look before its next state.
    VTPM_CHECK(store_.watch(frontend_ + "/state", frontend_token));

    VTPM_TRY(const auto uuid_text, store_.read(own_ + "/uuid"));
    auto uuid = Uuid::parse(uuid_text.value_or(""));
    if (!uuid)
        return malformed("uuid");
    return uuid;
}

bool DeviceNodes::concerns_frontend(const StoreEvent& event) {
    return event.token == frontend_token;
}

Result<std::optional<XenbusState>> DeviceNodes::read_state(const std::string& directory,
                                                           bool& present) {
    VTPM_TRY(const auto text, store_.read(directory + "/state"));
    present = text.has_value();
    return parse_xenbus_state(text.value_or(""));
}

Result<DeviceView> DeviceNodes::look() {
    DeviceView view;
    VTPM_TRY(view.own, read_state(own_, view.present));
    VTPM_TRY(const auto online, store_.read(own_ + "/online"));
    view.online = online.value_or("1") != "0";
    if (frontend_.empty())
        return view;
    VTPM_TRY(view.frontend, read_state(frontend_, view.frontend_present));
    return view;
}

Result<std::uint32_t> DeviceNodes::read_frontend_number(const std::string& key) {
    VTPM_TRY(const auto text, store_.read(frontend_ + "/" + key));
    const auto number = parse_store_number(text.value_or(""));
    // 0 is a reserved grant, and no port.
    if (!number || *number == 0)
        return malformed(key);
    return *number;
}

Result<RingAddress> DeviceNodes::offered_ring() {
    const std::string feature = "feature-protocol-v2";
    VTPM_TRY(const auto version_2, store_.read(frontend_ + "/" + feature));
    if (version_2.value_or("") != "1")
        return malformed(feature);
    RingAddress ring;
    ring.domid = domid_;
    VTPM_TRY(ring.ring_ref, read_frontend_number("ring-ref"));
    VTPM_TRY(ring.event_channel, read_frontend_number("event-channel"));
    return ring;
}

Result<void> DeviceNodes::write_features(std::string_view tpm_version) {
    VTPM_CHECK(store_.write(own_ + "/feature-protocol-v2", "1"));
    if (tpm_version.empty())
        return {};
    return store_.write(own_ + "/tpm-version", std::string(tpm_version));
}

Result<void> DeviceNodes::write_state(XenbusState state) {
    return store_.write(own_ + "/state", to_string(state));
}

Result<void> DeviceNodes::report(std::string_view reason) {
    if (reason == reported_)
        return {};
    VTPM_CHECK(store_.write(error_ + "/error", std::string(reason)));
    reported_ = reason;
    return {};
}

Result<void> DeviceNodes::withdraw_report() {
    if (reported_.empty())
        return {};
    VTPM_CHECK(store_.remove(error_));
    reported_.clear();
    // The domain's own directory of errors goes with the last of its devices.
    const std::string siblings = error_.substr(0, error_.rfind('/'));
    VTPM_TRY(const auto left, store_.list(siblings));
    if (left && left->empty())
        VTPM_CHECK(store_.remove(siblings));
    return {};
}

}  // namespace vtpm::xen
