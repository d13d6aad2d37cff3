// The bench's three parts; each prints its table. All on one host of a SimHost.
#pragma once

#include "fakes/simxen/sim_guest.h"

namespace vtpm::bench {

// p50 and p99 of single commands over every path, interleaved.
void commands(fakes::SimHost& host);
// From the start of vtpmd to state 2, and from the front end's state 3 to its first answer.
void starts(fakes::SimHost& host);
// PSS of vtpmmgrd and of the vtpmds and engines of 1, 10 and 100 guests.
void memory(fakes::SimHost& host);

// Throws unless all is well.
void require(bool well, const std::string& what);

}  // namespace vtpm::bench
