// Holders: which running guest holds which instance. One holder at a time.
//
// A hold is a vtpmd's connection, an engine's channel, or both; it ends when both are gone. So an
// engine that outlives its vtpmd keeps the instance from being opened twice, and the vtpmd's heir
// can take the hold over: the next one of the same device, which knows what the one before told.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "allowance.h"
#include "vtpm/base/bytes.h"
#include "vtpm/base/result.h"
#include "vtpm/base/uuid.h"

namespace vtpm::manager {

class EngineSession;

struct GuestDevice {
    std::uint32_t domain = 0;
    std::uint32_t device = 0;
    bool operator==(const GuestDevice&) const = default;
};

class Holders {
  public:
    // Errc::in_use if another guest holds it, or this one through a vtpmd that is still connected,
    // or whose `heir` the caller is not.
    Result<void> acquire(const Uuid& uuid, GuestDevice guest, ByteView heir);
    // The vtpmd is gone.
    void release(const Uuid& uuid);

    // Puts a new engine in the place of the one before, whose channel is closed.
    void set_engine(const Uuid& uuid, const std::shared_ptr<EngineSession>& engine);
    // An engine's channel has closed. Ignored unless it is the current one.
    void engine_gone(const Uuid& uuid, const EngineSession* engine);

    // What this instance's engines may still ask for. Neither a new engine nor a guest's next power
    // cycle, which it can have at will, begins afresh.
    std::shared_ptr<Allowance> allowance(const Uuid& uuid);

    std::optional<GuestDevice> holder(const Uuid& uuid) const;
    std::size_t count() const { return holds_.size(); }

  private:
    struct Hold {
        GuestDevice guest;
        Bytes heir;
        bool attended = false;  // a vtpmd is connected
        std::shared_ptr<EngineSession> engine = nullptr;
    };
    void drop_if_over(std::map<Uuid, Hold>::iterator hold);

    std::map<Uuid, Hold> holds_;
    std::map<Uuid, std::shared_ptr<Allowance>> allowances_;  // those that are not whole, and more
};

}  // namespace vtpm::manager
