// The containment drill, and the table of docs/containment.md.
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "stage.h"

using namespace vtpm;
using namespace vtpm::drill;

namespace {

constexpr auto patience = 60s;
constexpr std::size_t most_lines = 80;  // in the journal, of one drill

// What an engine must not reach; without it the refusals would say nothing.
class Bait {
  public:
    Bait() : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::string name = bait_socket(std::getenv(directory_variable));
        std::copy(name.begin(), name.end(), address.sun_path + 1);
        const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
        REQUIRE(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
        REQUIRE(::listen(socket_.get(), 8) == 0);
        segment_ = ::shmget(bait_segment, 4096, IPC_CREAT | 0666);
        REQUIRE(segment_ >= 0);
    }
    Bait(const Bait&) = delete;
    Bait& operator=(const Bait&) = delete;
    ~Bait() { ::shmctl(segment_, IPC_RMID, nullptr); }

  private:
    Fd socket_;
    int segment_ = -1;
};

std::string left_on_page(SimGuest& guest) {
    Bytes size(1);
    guest.hands().page().copy_in(outcome_offset, size);
    Bytes text(size[0]);
    guest.hands().page().copy_in(outcome_offset + 1, text);
    return {text.begin(), text.end()};
}

// From vtpmd's "the engine of domain 100 is gone (killed by signal 31; the reason)".
std::string end_of(const Journal& journal, const SimGuest& guest) {
    const auto start = "the engine of domain " + std::to_string(guest.domain()) + " is gone (";
    const auto lines = journal.lines(start);
    if (lines.empty())
        return "";
    const auto at = lines[0].find(start) + start.size();
    const auto semicolon = lines[0].find("; ", at);
    const auto how = lines[0].substr(at, semicolon - at);
    if (how == "killed by signal " + std::to_string(SIGSYS))
        return "killed by the filter";
    if (how == "killed by signal " + std::to_string(SIGSEGV))
        return "bounded, killed by SIGSEGV";
    if (how == "killed by signal " + std::to_string(SIGKILL))
        return "ended by vtpmd: " + lines[0].substr(semicolon + 2, lines[0].size() - semicolon - 3);
    return "ESCAPED, " + how;
}

std::string outcome_of(Stage& stage, const Escape& escape, bool with_filter) {
    const auto guest = stage.conquered(escape, with_filter);
    const auto end = std::chrono::steady_clock::now() + patience;
    std::string outcome;
    while (outcome.empty() && std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(2ms);
        outcome = end_of(stage.journal, *guest);
        // Both may be there: it tells, then it ends.
        if (const auto told = left_on_page(*guest); !told.empty())
            outcome = told;
    }
    CHECK(guest->destroy());
    INFO(escape.name);
    if (escape.name == "journal") {
        const auto told = "the engine of domain " + std::to_string(guest->domain());
        CHECK(stage.journal.lines(told + " writes too much").size() == 1);
        CHECK(stage.journal.lines(told).size() > 60);
    }
    CHECK(stage.journal.lines("domain " + std::to_string(guest->domain())).size() < most_lines);
    return outcome.empty() ? "ESCAPED, it goes on" : outcome;
}

std::string row(Stage& stage, const Escape& escape, bool two_columns) {
    const auto outcome = outcome_of(stage, escape, true);
    INFO(escape.name << ": " << outcome);
    CHECK(outcome.find("ESCAPED") == std::string::npos);
    auto text = "| " + std::string(escape.title) + " | " + outcome + " |";
    if (!two_columns)
        return text;
    const auto without = escape.filter == Filter::one_of_two ? outcome_of(stage, escape, false)
                                                             : std::string("not tried");
    INFO("without the filter: " << without);
    CHECK(without.find("ESCAPED") == std::string::npos);
    return text + " " + without + " |";
}

// Numbers differ from run to run and from host to host.
std::string without_numbers(const std::string& line) {
    std::string text;
    for (const char c : line) {
        if (std::isdigit(static_cast<unsigned char>(c)) == 0)
            text += c;
        else if (text.empty() || text.back() != '#')
            text += '#';
    }
    return text;
}

std::vector<std::string> documented() {
    std::vector<std::string> lines;
    std::ifstream file(VTPM_CONTAINMENT);
    bool inside = false;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("<!-- end"))
            inside = false;
        if (inside)
            lines.push_back(without_numbers(line));
        if (line.starts_with("<!-- printed"))
            inside = true;
    }
    return lines;
}

// All of them, or the one that somebody looks into: VTPM_DRILL_ONLY=open integration-drill
bool chosen(const Escape& escape) {
    const char* const only = std::getenv("VTPM_DRILL_ONLY");
    return only == nullptr || escape.name == only;
}

// Kernels can be built and booted without it; then the instruction is a fault, for everybody.
bool has_32_bit_gate() {
    const pid_t child = ::fork();
    if (child == 0) {
#ifdef __x86_64__
        long result = 20;  // getpid there
        asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
#endif
        ::_exit(0);
    }
    int status = 0;
    return ::waitpid(child, &status, 0) == child && WIFEXITED(status);
}

std::vector<std::string> table(Stage& stage, std::span<const Escape> escapes,
                               const std::string& heading, bool two_columns) {
    std::vector<std::string> lines = {
        "| " + heading + " | what happened |" + (two_columns ? " without the filter |" : ""),
        two_columns ? "| --- | --- | --- |" : "| --- | --- |"};
    const auto expected = documented();
    for (const auto& escape : escapes) {
        if (!chosen(escape))
            continue;
        if (escape.name == std::string_view("32-bit") && !has_32_bit_gate()) {
            std::cout << "not tried: this kernel has no 32-bit gate" << std::endl;
            const auto line = std::find_if(expected.begin(), expected.end(), [](const auto& l) {
                return l.find("-bit gate") != std::string::npos;  // without its number
            });
            REQUIRE(line != expected.end());
            lines.push_back(*line);
            continue;
        }
        lines.push_back(row(stage, escape, two_columns));
        std::cout << lines.back() << std::endl;
        INFO(lines.back());
        CHECK(std::count(expected.begin(), expected.end(), without_numbers(lines.back())) == 1);
    }
    lines.emplace_back();
    return lines;
}

}  // namespace

TEST_CASE("the containment drill") {
    Stage stage;
    const Bait bait;
    const auto sequence = stage.host.show(stage.uuid).sequence();
    const auto engine = stage.victim.engine_pid();

    std::vector<std::string> printed;
    const auto add = [&](const std::vector<std::string>& lines) {
        printed.insert(printed.end(), lines.begin(), lines.end());
    };
    add(table(stage, outside(), "to reach what is not its own", true));
    add(table(stage, powers(), "to get powers", true));
    add(table(stage, resources(), "to use up what others need", true));
    add(table(stage, manager(), "by its channel to vtpmmgrd", false));
    add(table(stage, doorman(), "by its channel to vtpmd", false));

    // Nobody else has noticed anything.
    CHECK(stage.victim.engine_pid() == engine);
    CHECK(run(stage.victim, v20::get_random(16)) == success);
    CHECK(stage.host.show(stage.uuid).sequence() == sequence);
    CHECK(stage.victim.destroy());
    const auto journal = stage.journal.text();
    CHECK(std::all_of(journal.begin(), journal.end(),
                      [](char c) { return (c >= 0x20 && c < 0x7f) || c == '\n'; }));
    CHECK(journal.find("\n<") == std::string::npos);  // what journald takes for a priority

    std::ofstream copy(VTPM_PRINTED);
    for (auto& line : printed) {
        copy << line << "\n";
        line = without_numbers(line);
    }
    INFO("what was printed is in " << VTPM_PRINTED);
    if (std::getenv("VTPM_DRILL_ONLY") == nullptr)
        CHECK(documented() == printed);
}
