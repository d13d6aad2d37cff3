// Xen's libraries print to standard error unless they are given somebody who listens. This room
// says what went wrong in its Results, so nobody does.
#pragma once

struct xentoollog_logger;

namespace vtpm::xen {

xentoollog_logger* mute_log();  // lives for ever; free of threads

}  // namespace vtpm::xen
