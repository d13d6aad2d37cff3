#include "vtpm/base/secret_bytes.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <fstream>
#include <string>
#include <vector>

#include "vtpm/base/fd.h"

using namespace vtpm;

namespace {

// The pattern is never in this program as such, so that only what the code under test stored is
// found.
void fill_pattern(MutableByteView bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::uint8_t>(0xA5U ^ (i * 7 + 13));
    }
}

// How often the pattern lies in the writable memory of another process.
std::size_t count_in_process(pid_t pid, std::size_t pattern_size) {
    const std::string proc = "/proc/" + std::to_string(pid);
    std::ifstream maps(proc + "/maps");
    std::ifstream memory(proc + "/mem", std::ios::binary);
    std::vector<std::uint8_t> pattern(pattern_size);
    fill_pattern(pattern);
    std::size_t found = 0;
    for (std::string line; std::getline(maps, line);) {
        if (line.find(" rw") == std::string::npos)
            continue;
        const auto dash = line.find('-');
        const auto begin = std::stoull(line.substr(0, dash), nullptr, 16);
        const auto end = std::stoull(line.substr(dash + 1), nullptr, 16);
        if (end - begin > (1ULL << 30))
            continue;  // a sanitizer's shadow
        std::vector<char> content(end - begin);
        memory.clear();
        memory.seekg(static_cast<std::streamoff>(begin));
        if (!memory.read(content.data(), static_cast<std::streamsize>(content.size())))
            continue;
        auto at = content.begin();
        while ((at = std::search(at, content.end(), pattern.begin(), pattern.end(),
                                 [](char a, std::uint8_t b) {
                                     return static_cast<std::uint8_t>(a) == b;
                                 })) != content.end()) {
            ++found;
            ++at;
        }
    }
    return found;
}

}  // namespace

TEST_CASE("a secret is wiped when it ends, seen from another process") {
    constexpr std::size_t size = 1500;
    auto to_child = stream_socket_pair().value();
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::uint8_t turn = 0;
        {
            SecretBytes first(size);
            fill_pattern(first.span());
            SecretBytes moved = std::move(first);
            (void)write_all(to_child.second.get(), Bytes{1});
            (void)read_exactly(to_child.second.get(), {&turn, 1});
            moved.shrink(10);  // a shorter secret must not hide the rest from the wipe
        }
        (void)write_all(to_child.second.get(), Bytes{2});
        (void)read_exactly(to_child.second.get(), {&turn, 1});
        ::_exit(0);
    }
    std::array<std::uint8_t, 1> turn{};
    REQUIRE(read_exactly(to_child.first.get(), turn));
    CHECK(count_in_process(child, size) == 1);  // the search finds what is there
    REQUIRE(write_all(to_child.first.get(), Bytes{1}));
    REQUIRE(read_exactly(to_child.first.get(), turn));
    CHECK(count_in_process(child, size) == 0);
    // Even a part of it: the wipe covers the capacity.
    CHECK(count_in_process(child, 64) == 0);
    REQUIRE(write_all(to_child.first.get(), Bytes{1}));
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
}

TEST_CASE("moving leaves nothing behind, cloning makes an equal one") {
    SecretBytes a = SecretBytes::copy_of(Bytes{1, 2, 3});
    const SecretBytes b = a.clone();
    const SecretBytes c = std::move(a);
    CHECK(a.empty());  // NOLINT(bugprone-use-after-move): what is tested
    CHECK(equal_constant_time(b.view(), c.view()));
}
