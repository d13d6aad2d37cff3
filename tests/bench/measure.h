// The bench's three parts; each prints its table. All on one host of a SimHost.
#pragma once

#include "fakes/simxen/host.h"

namespace vtpm::bench {

// p50 and p99 of single commands over every path, interleaved.
void commands(fakes::SimHost& host);
// From the fork to the engine's Ready report.
void starts(fakes::SimHost& host);
// PSS of vtpmmgrd and of 1, 10 and 100 engines.
void memory(fakes::SimHost& host);

// Throws unless it is a success.
void require(const Result<void>& result);

}  // namespace vtpm::bench
