// The bench's five parts; each prints its table. All on one host of a SimHost.
#pragma once

#include "fakes/simxen/sim_guest.h"

namespace vtpm::bench {

// p50 and p99 of single commands over every path, interleaved.
void commands(fakes::SimHost& host);
// From the start of vtpmd to state 2, and from the front end's state 3 to its first answer.
void starts(fakes::SimHost& host);
// PSS of vtpmmgrd and of the vtpmds and engines of 1, 10 and 100 guests.
void memory(fakes::SimHost& host);

// swtpm and vtpm-swtpm beside each other, both on swtpm's protocol: commands, and from the start of
// the program to its first answer.
void fronts(fakes::SimHost& host);

// NV writes beside swtpm's and the bare disk's; of many guests at once; and what the chip is asked.
void writes(fakes::SimHost& host);

// A TPM does not write what is there already: every write has to bring something new.
Bytes changing_write();

// Throws unless all is well.
void require(bool well, const std::string& what);

}  // namespace vtpm::bench
