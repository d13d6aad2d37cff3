// The cheats, by the name that one types. Each goes on for about `time` and counts what it did.
#pragma once

#include "cheater.h"

namespace vtpm::cheat {

using Cheat = void (*)(Cheater& guest, Milliseconds time, Tally& tally);

// On the ring page and the event channel (ring_cheats.cpp)
void storm(Cheater& guest, Milliseconds time, Tally& tally);       // events about nothing
void storm_rsa(Cheater& guest, Milliseconds time, Tally& tally);   // the same while keys are made
void flood(Cheater& guest, Milliseconds time, Tally& tally);       // commands without a pause
void lengths(Cheater& guest, Milliseconds time, Tally& tally);     // changed after the check
void states(Cheater& guest, Milliseconds time, Tally& tally);      // flipped at every moment
void headers(Cheater& guest, Milliseconds time, Tally& tally);     // all of the page, at random
void localities(Cheater& guest, Milliseconds time, Tally& tally);  // 0 to 255
void pages(Cheater& guest, Milliseconds time, Tally& tally);       // nr_extra_pages 0 to 255
void silent(Cheater& guest, Milliseconds time, Tally& tally);      // no event for any command

// In xenstore and with grants (store_cheats.cpp)
void orders(Cheater& guest, Milliseconds time, Tally& tally);    // 3, 4, 5, 6, 1 in every order
void rewrites(Cheater& guest, Milliseconds time, Tally& tally);  // ring-ref and event-channel
void grants(Cheater& guest, Milliseconds time, Tally& tally);    // revoked, wrong, read-only
void entries(Cheater& guest, Milliseconds time, Tally& tally);   // the table, while it is mapped

// An honest guest's latencies at /dev/tpm0 (measure.cpp)
void measure(Milliseconds time, Tally& tally);

}  // namespace vtpm::cheat
