// Logging of the daemons: to standard error, one line an event, with the priority prefix that
// journald reads (sd-daemon(3)), if it is the journal; what that does not take at once is lost, and
// counted. Only code in daemons/ logs. Never log payloads: sizes, codes and names only. One thread.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace vtpm::log {

// Who adds the time to a line: the journal, or who reads standard error, or nobody else.
enum class Times { left_to_others, shown };

// Makes spdlog's default logger ours. `program` is shown only when no journal adds it.
void init(const std::string& program, Times times = Times::left_to_others);

// Control characters of text from outside become '?', and it is cut at 120 bytes.
std::string printable(std::string_view text);

}  // namespace vtpm::log
