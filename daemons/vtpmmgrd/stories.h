// Stories: what is known of the power cycle that each instance is in, or was in last: who holds it,
// since when, and what its vtpmd has said of its engines. For people who ask; nothing is decided by
// it. In memory only: the journal is what lasts.
#pragma once

#include <cstdint>
#include <map>

#include "holders.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::manager {

struct Story {
    GuestDevice guest;
    std::int64_t held = 0;      // unix seconds
    std::int64_t released = 0;  // 0: it is held, as far as we were told
    std::uint64_t first = 0;    // the instance's sequence when this began
    std::uint64_t last = 0;     // and when it was released
    bool speaks = false;        // its vtpmd; those of an older version do not
    wire::proto::Power power;
    std::uint32_t told = 0;  // of the engines in `power`: by the vtpmd of now
};

class Stories {
  public:
    // `sequence` is the instance's, in all of these.
    //
    // A vtpmd holds it. One that was restarted does not know how its guest's TPM began, and goes on
    // with the story of the vtpmd before, if that was the same guest's.
    void opened(const Uuid& uuid, GuestDevice guest, std::uint64_t sequence);
    // By its vtpmd, whether there is anything new or not.
    void told(const Uuid& uuid, std::uint64_t sequence, const wire::proto::Power& power);
    // Nobody holds it any more.
    void released(const Uuid& uuid, std::uint64_t sequence);

    const Story* find(const Uuid& uuid) const;

  private:
    std::map<Uuid, Story> stories_;  // of those that were ever opened: one each
};

// `held`: by somebody, now.
void describe(const Story& story, std::uint64_t sequence, bool held, wire::proto::Story& into);

}  // namespace vtpm::manager
