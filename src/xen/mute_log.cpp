#include "mute_log.h"

#include <xentoollog.h>

namespace vtpm::xen {

namespace {

void ignore_message(xentoollog_logger*, xentoollog_level, int, const char*, const char*, va_list) {}
void ignore_progress(xentoollog_logger*, const char*, const char*, int, unsigned long,
                     unsigned long) {}
void keep(xentoollog_logger*) {}

}  // namespace

xentoollog_logger* mute_log() {
    static xentoollog_logger log{ignore_message, ignore_progress, keep};
    return &log;
}

}  // namespace vtpm::xen
