// What an engine gives up before its second thread starts: all but the system calls, which the
// filter takes (allowed_calls.h). A file of its own because tests/fuzz puts hostile states into the
// very same jail.
#pragma once

#include <cstdint>

namespace vtpm::engine_program {

// Whole-process, as root. Keeps standard error, vtpmd's and vtpmmgrd's descriptors (seat.h) and
// this one. Ends the process where a step fails.
void confine(std::uint32_t uid, int event_channel_fd);

}  // namespace vtpm::engine_program
