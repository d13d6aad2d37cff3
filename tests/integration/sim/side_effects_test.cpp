// What a guest's bytes leave behind once they were answered: nothing in a log, nothing on the ring
// page, and nothing in memory but what is the TPM's state now.
#include <fcntl.h>
#include <sys/random.h>

#include <algorithm>
#include <map>

#include "bench.h"
#include "vtpm/base/fd.h"

using namespace vtpm;
using namespace vtpm::fakes;

namespace {

constexpr std::size_t mark_size = 48;

Bytes random_mark() {
    Bytes mark(mark_size);
    REQUIRE(::getrandom(mark.data(), mark.size(), 0) == static_cast<ssize_t>(mark.size()));
    return mark;
}

// Half of one counts: malloc writes over the beginning of what it is given back.
bool holds(ByteView where, const Bytes& mark) {
    const auto found = [&](std::size_t from) {
        return std::search(where.begin(), where.end(), mark.begin() + static_cast<long>(from),
                           mark.begin() + static_cast<long>(from) + 16) != where.end();
    };
    return found(0) || found(mark_size - 16);
}

std::string as_text(const Bytes& mark) {
    std::string out;
    for (const std::uint8_t byte : mark) {
        constexpr std::string_view digits = "0123456789abcdef";
        out += digits[byte >> 4U];
        out += digits[byte & 15U];
    }
    return out;
}

// All memory of a process that it could write, in one piece; without the ring page, which is the
// guest's.
Bytes memory_of(pid_t pid) {
    const std::string process = "/proc/" + std::to_string(pid);
    const Fd memory(::open((process + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(memory.valid());
    Bytes all;
    std::ifstream maps(process + "/maps");
    for (std::string line; std::getline(maps, line);) {
        unsigned long begin = 0;
        unsigned long end = 0;
        char rights[5] = {};
        if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, rights) != 3 ||
            rights[1] != 'w' || rights[3] == 's')
            continue;
        const std::size_t at = all.size();
        all.resize(at + (end - begin));
        const auto got =
            ::pread(memory.get(), all.data() + at, end - begin, static_cast<off_t>(begin));
        all.resize(at + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    }
    REQUIRE_FALSE(all.empty());
    return all;
}

// What we and our children say meanwhile.
class Overheard {
  public:
    explicit Overheard(const std::filesystem::path& file)
        : file_(file), before_(::dup(STDERR_FILENO)) {
        const Fd log(::open(file.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
        REQUIRE(::dup2(log.get(), STDERR_FILENO) == STDERR_FILENO);
    }
    Overheard(const Overheard&) = delete;
    Overheard& operator=(const Overheard&) = delete;
    ~Overheard() { ::dup2(before_.get(), STDERR_FILENO); }

    std::string text() const {
        std::ifstream file(file_, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }

  private:
    std::filesystem::path file_;
    Fd before_;
};

Bytes hash_of(const Bytes& data) {
    return tpm_commands::command(0x8001, 0x17D,
                                 ByteWriter()
                                     .u16(static_cast<std::uint16_t>(data.size()))
                                     .bytes(data)
                                     .u16(0x0B)
                                     .u32(0x40000007)
                                     .take());
}

struct Marks {
    Bytes kept = random_mark();
    std::map<std::string, Bytes> gone = {{"hashed", random_mark()},
                                         {"overwritten", random_mark()},
                                         {"undefined", random_mark()},
                                         {"malformed", random_mark()},
                                         {"beyond the command", random_mark()}};
};

// Of a TPM 2.0: each mark is used, and then has no more use; `kept` stays in an index.
void use(SimGuest& guest, const Marks& marks) {
    constexpr std::uint32_t other_index = v20::nv_index + 1;
    REQUIRE(run(guest, v20::nv_define(mark_size)) == success);
    REQUIRE(run(guest, v20::nv_write(marks.gone.at("overwritten"))) == success);
    REQUIRE(run(guest, v20::nv_write(marks.kept)) == success);
    REQUIRE(read_nv(guest, mark_size) == marks.kept);
    REQUIRE(run(guest, v20::nv_define(mark_size, other_index)) == success);
    REQUIRE(run(guest, v20::nv_write(marks.gone.at("undefined"), other_index)) == success);
    REQUIRE(run(guest, v20::authorised(0x122, ByteWriter().u32(v20::owner).u32(other_index).take(),
                                       {})) == success);
    REQUIRE(run(guest, hash_of(marks.gone.at("hashed"))) == success);
    REQUIRE(run(guest, tpm_commands::command(0x8001, 0x2FF, marks.gone.at("malformed"))) !=
            success);
    Bytes longer = v20::get_random(16);
    const Bytes& tail = marks.gone.at("beyond the command");
    longer.insert(longer.end(), tail.begin(), tail.end());
    REQUIRE(run(guest, longer) == command_size);
    REQUIRE(run(guest, v20::get_random(16)) == success);
}

}  // namespace

TEST_CASE("a guest's bytes are in no log, and in no memory once they have no use", "[memory]") {
    const TemporaryDirectory directory;
    const Overheard overheard(directory.path() / "log");
    const Marks marks;
    Bench bench;
    boot(bench.guest);
    use(bench.guest, marks);

    const Bytes engine = memory_of(bench.guest.engine_pid());
    const Bytes doorman = memory_of(bench.guest.vtpmd().pid());
    const Bytes manager = memory_of(bench.host.manager_pid());
    const ByteView page(bench.guest.hands().raw(), xen::tpmif::page_size);
    CHECK(holds(engine, marks.kept));  // the search finds what is there
    CHECK_FALSE(holds(doorman, marks.kept));
    CHECK_FALSE(holds(manager, marks.kept));
    for (const auto& [name, mark] : marks.gone) {
        INFO(name);
        CHECK_FALSE(holds(engine, mark));
        CHECK_FALSE(holds(doorman, mark));
        CHECK_FALSE(holds(manager, mark));
    }

    REQUIRE(read_nv(bench.guest, mark_size) == marks.kept);
    CHECK(holds(page, marks.kept));
    REQUIRE(bench.guest.destroy());
    CHECK(std::all_of(page.begin() + sizeof(xen::tpmif::Header), page.end(),
                      [](std::uint8_t byte) { return byte == 0; }));

    const std::string said = overheard.text();
    CHECK(said.find("instance") != std::string::npos);  // the daemons are heard
    for (const auto& [name, mark] : marks.gone) {
        INFO(name << ": " << said);
        CHECK_FALSE(holds(as_bytes(said), mark));
        CHECK(said.find(as_text(mark).substr(0, 16)) == std::string::npos);
    }
}
