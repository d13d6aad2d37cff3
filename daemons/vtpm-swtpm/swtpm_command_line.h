// The command line of swtpm(8), as far as libvirt and scripts use it: `swtpm socket ...`. Of it,
// what has a meaning here is obeyed; what is about files of state is taken, and said to be not
// needed.
#pragma once

#include <CLI/App.hpp>
#include <map>
#include <set>

#include "options.h"

namespace vtpm::swtpm {

// Whether this program was started as swtpm.
bool started_as_swtpm(const char* program);

// Ends the process as options_of() does.
Options swtpm_options_of(int argc, char** argv);
// Does not: throws CLI::ParseError, and for what asks for no TPM CLI::Success. `app` is empty, and
// of no use afterwards but for its exit().
Options parse_swtpm(CLI::App& app, int argc, const char* const* argv);

// "a=1,b,c=2" of one option: every key has to be among `known`. Throws CLI::ValidationError.
std::map<std::string, std::string> settings_of(const std::string& option, const std::string& text,
                                               const std::set<std::string>& known);

}  // namespace vtpm::swtpm
