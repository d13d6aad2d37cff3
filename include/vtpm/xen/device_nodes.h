// DeviceNodes: the xenstore nodes of one vtpm device, as its back end reads and writes them
// (the table of keys is that of libxl and Linux's xenbus). BackDevice's eyes and hands; it decides
// nothing. One thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "vtpm/base/uuid.h"
#include "vtpm/xen/back_device_owner.h"
#include "vtpm/xen/store.h"
#include "vtpm/xen/xenbus_state.h"

namespace vtpm::xen {

// One reading of everything that can change. A state that is there but makes no sense is nullopt.
struct DeviceView {
    bool present = false;  // our own directory; libxl removes it
    std::optional<XenbusState> own;
    bool online = true;  // false: the toolstack wants the device gone
    bool frontend_present = false;
    std::optional<XenbusState> frontend;
    bool settled = true;  // nothing has changed while it was read
};

class DeviceNodes {
  public:
    DeviceNodes(Store& store, DomainId domid, std::uint32_t devid);

    // The own directory and the lives of domains; the front end's state follows in identify().
    Result<void> watch();
    // frontend and frontend-id are held against the domain id; returns the uuid.
    Result<Uuid> identify();
    // Was this event for the front end's state node?
    static bool concerns_frontend(const StoreEvent& event);

    Result<DeviceView> look();
    // What the guest offers. Errc::malformed if that is no ring of protocol version 2.
    Result<RingAddress> offered_ring();

    Result<void> write_features(std::string_view tpm_version);
    Result<void> write_state(XenbusState state);
    // xenbus_dev_error()'s convention. The last report is remembered and not written twice.
    Result<void> report(std::string_view reason);
    Result<void> withdraw_report();

  private:
    Result<std::optional<XenbusState>> read_state(const std::string& directory, bool& present);
    Result<std::uint32_t> read_frontend_number(const std::string& key);

    Store& store_;
    DomainId domid_;
    std::string own_;       // backend/vtpm/<domid>/<devid>
    std::string frontend_;  // as libxl wrote it into our directory
    std::string error_;     // error/backend/vtpm/<domid>/<devid>
    std::string reported_;
};

}  // namespace vtpm::xen
