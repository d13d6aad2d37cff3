// How several ways to a TPM are measured beside each other, and what is said of many samples.
#pragma once

#include <functional>
#include <vector>

#include "vtpm/base/bytes.h"

namespace vtpm::bench {

struct Path {
    const char* name;
    std::function<Bytes(ByteView)> transmit;
    bool is_tpm = true;  // false: its answers are not looked at
};

struct Command {
    const char* name;
    std::function<Bytes()> next;  // called outside the measured time
    int in_a_round;
};

// Every path and every command in each of 40 rounds: what drifts, drifts for all. Prints p50 and
// p99. Throws when a TPM does not answer with success.
void compare(const std::vector<Path>& paths, const std::vector<Command>& commands);

struct Spread {
    double median;
    double least;
    double most;
};

double percentile(std::vector<double>& samples, double share);  // sorts them
Spread spread(std::vector<double> values);

}  // namespace vtpm::bench
