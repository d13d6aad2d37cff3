// What a guest that has conquered its engine may try: each escape runs in the place of the serving
// loop, in a process that has confined itself exactly as the shipped vtpm-engine does.
//
// An escape returns what happened: "refused, ENOENT", "bounded, ..."; or "ESCAPED, ..." for what
// must not be. Many never return: the kernel or vtpmd ends the process, which is an outcome as
// well.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "seat.h"

namespace vtpm::drill {

// How the test chooses, by environment: it is read before the process is confined.
inline constexpr const char* escape_variable = "VTPM_DRILL";
inline constexpr const char* victim_variable = "VTPM_DRILL_VICTIM";  // pid of another's engine
inline constexpr const char* uuid_variable = "VTPM_DRILL_UUID";      // of another's instance
inline constexpr const char* directory_variable = "SIMXEN_DIR";
inline constexpr const char* no_filter_variable = "VTPM_DRILL_WITHOUT_FILTER";

// An abstract socket and a System V segment of the host's, which an engine must not reach.
inline std::string bait_socket(const std::string& directory) {
    return "drill:" + directory;
}
inline constexpr int bait_segment = 0x76d1;

// Where on the ring page an escape leaves its outcome: a length (one byte, last), then the text.
inline constexpr std::size_t outcome_offset = 2048;

struct Scene {
    engine_program::Seat& seat;
    int victim = 0;
    std::string uuid;
    std::string directory;
};

enum class Filter {
    only,       // what happens without it depends on the kernel, or it alone holds
    one_of_two  // something else refuses it too: tried once more without the filter
};

struct Escape {
    std::string_view name;
    std::string_view title;
    std::string (*run)(Scene& scene);
    Filter filter = Filter::only;
};

std::span<const Escape> outside();    // files, processes, devices, sockets
std::span<const Escape> powers();     // privileges, and parts of the kernel nobody needs
std::span<const Escape> resources();  // memory, descriptors, the journal
std::span<const Escape> manager();    // by the channel to vtpmmgrd
std::span<const Escape> doorman();    // by the channel to vtpmd
std::span<const Escape> floods();     // for as long as the process lives

// "refused, ENAME" for a result below zero, else "ESCAPED, " and what.
std::string refused(long result, const char* what);

}  // namespace vtpm::drill
