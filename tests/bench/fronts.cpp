// Two programs that speak swtpm's protocol, started and asked as QEMU does.
#include <array>
#include <cstdio>

#include "compare.h"
#include "fakes/tpm_commands.h"
#include "measure.h"
#include "vtpm/base/descriptor_message.h"
#include "vtpm/tpm/message.h"

namespace vtpm::bench {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;
using fakes::Child;
namespace v12 = tpm_commands::v12;
namespace v20 = tpm_commands::v20;

constexpr int starts_of_a_kind = 10;
constexpr std::uint32_t cmd_init = 2;
constexpr std::uint32_t cmd_shutdown = 3;
constexpr std::uint32_t cmd_set_datafd = 16;

Bytes startup(tpm::Version version) {
    return version == tpm::Version::v2_0 ? tpm_commands::command(0x8001, 0x144, {0, 0})
                                         : tpm_commands::command(0x00C1, 0x99, {0, 1});
}

Bytes get_random(tpm::Version version) {
    return version == tpm::Version::v2_0 ? v20::get_random(16) : v12::get_random(16);
}

// A running program and QEMU's ends of its channels; it ends with SHUTDOWN.
class Front {
  public:
    Front(const std::vector<std::string>& words, const std::filesystem::path& control)
        : process_(words, fakes::SimHost::environment()) {
        const auto deadline = Clock::now() + 20s;
        while (!(control_ = fakes::connect_to(control)).valid()) {
            require(process_.running() && Clock::now() < deadline, words[0] + " does not listen");
            std::this_thread::sleep_for(200us);
        }
        hand_over_data();
        require(ask(ByteWriter().u32(cmd_init).u32(0).take()), "no INIT");
    }

    void end() {
        require(ask(ByteWriter().u32(cmd_shutdown).take()), "no SHUTDOWN");
        require(process_.wait(20s) == 0, "no orderly end");
    }

    Bytes transmit(ByteView command) const {
        Bytes answer(4096);
        if (!write_all(data_.get(), command))
            return {};
        const auto size = ::read(data_.get(), answer.data(), answer.size());
        answer.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
        return answer;
    }

    void expect_success(const Bytes& command) const {
        const auto header = tpm::parse_header(transmit(command));
        require(header && header->code == 0, "a command fails");
    }

  private:
    bool ask(const Bytes& request) const {
        return write_all(control_.get(), request) && succeeded();
    }

    bool succeeded() const {
        Bytes result(4);
        return read_exactly(control_.get(), result) && result == Bytes(4, 0);
    }

    void hand_over_data() {
        std::array<int, 2> ends{};
        require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0,
                "socketpair");
        data_ = Fd(ends[0]);
        const Fd theirs(ends[1]);
        Bytes request = ByteWriter().u32(cmd_set_datafd).take();
        DescriptorMessage message(request, theirs.get());
        require(::sendmsg(control_.get(), message.header(), MSG_NOSIGNAL) == 4 && succeeded(),
                "no SET_DATAFD");
    }

    Child process_;
    Fd control_;
    Fd data_;
};

// What is started for one TPM, again and again.
struct Program {
    std::vector<std::string> words;
    std::filesystem::path control;

    Front start() const { return {words, control}; }
};

Program ours(fakes::SimHost& host, tpm::Version version) {
    const std::string uuid = host.create(version).to_string();
    const auto control = host.directory() / uuid.substr(0, 8);
    return {{VTPM_FRONT, uuid, "--manager", host.socket(), "--engine", VTPM_FRONT_ENGINE,
             "--run-dir", (host.directory() / "run").string(), "--ctrl", control.string()},
            control};
}

Program swtpm(fakes::SimHost& host, tpm::Version version) {
    static int count = 0;
    const auto directory = host.directory() / ("swtpm" + std::to_string(count++));
    std::filesystem::create_directory(directory);
    const auto control = directory / "ctrl";
    Program program{
        {"swtpm", "socket", "--tpmstate", "dir=" + directory.string(), "--ctrl",
         "type=unixio,path=" + control.string(), "--log", "file=" + (directory / "log").string()},
        control};
    if (version == tpm::Version::v2_0)
        program.words.emplace_back("--tpm2");
    return program;
}

double milliseconds_since(Clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

struct Starts {
    std::vector<double> ready;     // from the start of the program to the answer to INIT
    std::vector<double> answered;  // from there to the first answer after TPM_Startup's
};

void start(const Program& program, tpm::Version version, Starts& times) {
    const auto begin = Clock::now();
    Front front = program.start();
    times.ready.push_back(milliseconds_since(begin));
    const auto ready = Clock::now();
    front.expect_success(startup(version));
    front.expect_success(get_random(version));
    times.answered.push_back(milliseconds_since(ready));
    front.end();
}

void print(const std::string& name, const std::vector<double>& times) {
    const auto s = spread(times);
    std::printf("%-52s %8.1f %8.1f %8.1f\n", name.c_str(), s.median, s.least, s.most);
}

void starts_of(fakes::SimHost& host, tpm::Version version) {
    using Maker = Program (*)(fakes::SimHost&, tpm::Version);
    const std::array<std::pair<const char*, Maker>, 2> makers = {std::pair{"vtpm-swtpm", &ours},
                                                                 std::pair{"swtpm", &swtpm}};
    std::array<std::array<Starts, 2>, 2> times;  // of each maker: the first start, a later one
    for (int i = 0; i < starts_of_a_kind; ++i) {
        for (std::size_t m = 0; m < makers.size(); ++m) {
            const Program program = makers[m].second(host, version);
            for (auto& kind : times[m])
                start(program, version, kind);
        }
    }
    for (const std::size_t later : {0U, 1U}) {
        for (std::size_t m = 0; m < makers.size(); ++m) {
            const std::string name = std::string(makers[m].first) + ", " +
                                     std::string(tpm::to_string(version)) +
                                     (later == 0 ? ", new: " : ", later: ");
            print(name + "start to INIT answered", times[m][later].ready);
            print(name + "from there to first answer", times[m][later].answered);
        }
    }
}

}  // namespace

void fronts(fakes::SimHost& host) {
    Front our_front = ours(host, tpm::Version::v2_0).start();
    Front its_front = swtpm(host, tpm::Version::v2_0).start();
    our_front.expect_success(startup(tpm::Version::v2_0));
    its_front.expect_success(startup(tpm::Version::v2_0));
    compare({{"vtpm-swtpm", [&](ByteView c) { return our_front.transmit(c); }},
             {"swtpm", [&](ByteView c) { return its_front.transmit(c); }}},
            {{"GetRandom(16)", [] { return v20::get_random(16); }, 50},
             {"PCR_Read", [] { return v20::pcr_read(10); }, 50},
             {"PCR_Extend", [] { return v20::pcr_extend(10, 0xA5); }, 50}});
    our_front.end();
    its_front.end();
    std::printf("\n%-52s %8s %8s %8s\n", "ms", "median", "least", "most");
    for (const auto version : {tpm::Version::v1_2, tpm::Version::v2_0})
        starts_of(host, version);
}

}  // namespace vtpm::bench
