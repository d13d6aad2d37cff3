// A TPM's state as a hostile disk or another host's swtpm would have it: what libtpms wrote, with
// bytes changed and, for a TPM 1.2, the digest over them made right again; then the guest's first
// commands. Each goes first to a worker in the engine's own jail: what libtpms makes of it there
// must need no system call that the list lacks, and end the worker at most by a fault of libtpms'
// that is known. What the worker lives through is done once more here, where the sanitizers look at
// us.
#include <fcntl.h>
#include <openssl/sha.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>

#include "fakes/tpm_commands.h"
#include "input.h"
#include "state_case.h"
#include "state_jail.h"
#include "vtpm/base/fd.h"
#include "vtpm/engine/libtpms_engine.h"

using namespace vtpm;
using engine::LibtpmsEngine;
using engine::StateKind;
using fuzz::End;
using fuzz::Input;
using fuzz::must;
using fuzz::StateCase;
using tpm::Version;

namespace {

struct Good {
    Bytes permanent;
    Bytes running;
};

Bytes copied(const SecretBytes& bytes) {
    return {bytes.view().begin(), bytes.view().end()};
}

Good make(Version version) {
    Good good;
    LibtpmsEngine tpm;
    must(tpm.power_on({version, true, {}, {}, {}}).has_value(), "no TPM is made");
    if (version == Version::v2_0) {
        Bytes response(4096);
        (void)tpm.execute(tpm_commands::v20::nv_define(64), 0, response);
    }
    for (const auto& change : tpm.take_changes()) {
        if (change.kind == StateKind::permanent && change.content)
            good.permanent = copied(*change.content);
    }
    good.running = copied(tpm.volatile_state().value());
    return good;
}

const Good& good(Version version) {
    static const std::map<Version, Good> both = {{Version::v1_2, make(Version::v1_2)},
                                                 {Version::v2_0, make(Version::v2_0)}};
    return both.at(version);
}

// libtpms ends each of a TPM 1.2's states with SHA-1 of all that is before.
Bytes changed(const Bytes& state, Version version, Input& input) {
    if (version == Version::v2_0 || state.size() <= SHA_DIGEST_LENGTH || input.rarely())
        return input.changed(state);
    Bytes body = input.changed({state.begin(), state.end() - SHA_DIGEST_LENGTH});
    std::array<std::uint8_t, SHA_DIGEST_LENGTH> digest{};
    ::SHA1(body.data(), body.size(), digest.data());
    body.insert(body.end(), digest.begin(), digest.end());
    return body;
}

StateCase read_case(Input& input) {
    namespace v12 = tpm_commands::v12;
    namespace v20 = tpm_commands::v20;
    StateCase one;
    one.version = input.flag() ? Version::v1_2 : Version::v2_0;
    const bool resumes = input.flag();
    one.permanent = good(one.version).permanent;
    if (resumes)
        one.running = good(one.version).running;
    Bytes& target = resumes && input.flag() ? one.running : one.permanent;
    target = changed(target, one.version, input);
    one.saved = input.rarely();
    const std::array commands =
        one.version == Version::v1_2
            ? std::array{v12::get_random(8), v12::pcr_read(3), v12::extend(3, 1), v12::read_pubek(),
                         v12::get_random(4000)}
            : std::array{v20::get_random(8), v20::pcr_read(16), v20::nv_define(8), v20::nv_read(8),
                         v20::pcr_read(0)};
    for (int i = 0; i < 4 && !input.empty(); ++i) {
        Bytes command = input.rarely_changed(input.one_of(commands));
        one.commands.push_back({static_cast<std::uint8_t>(input.pick(5)), std::move(command)});
    }
    one.hands_over = input.flag();
    return one;
}

// The worker in the jail. A new one after each that has ended, and after some time: an engine
// starts libtpms once, and what libtpms leaks by being started again is not to count for the
// limits.
class Jail {
  public:
    // False: a fault of libtpms' own that is known ended the worker.
    bool lives(const StateCase& one) {
        if (pid_ < 0 || ++cases_ > cases_of_one)
            start();
        const Bytes bytes = fuzz::to_bytes(one);
        auto size = static_cast<std::uint32_t>(bytes.size());
        End end;
        // These go on after libFuzzer's SIGALRM, which comes each -timeout/2 seconds.
        const bool told = write_all(socket_.get(), fuzz::bytes_of(size)).has_value() &&
                          write_all(socket_.get(), bytes).has_value() &&
                          read_exactly(socket_.get(), fuzz::bytes_of(end)).has_value();
        if (told && end.how == End::How::lived)
            return true;
        const int status = this->end();
        if (told && end.how == End::How::fault)
            return fault(end);
        must(!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS,
             "libtpms makes a system call that the engine's list lacks");
        std::fprintf(stderr, "the worker in the jail has ended with status %#x\n",
                     static_cast<unsigned>(status));
        must(false, "the worker in the jail has ended");
        return false;
    }

  private:
    static constexpr unsigned cases_of_one = 100;

    // docs/libtpms-findings.md, number 1.
    static bool fault(const End& end) {
        constexpr std::uint64_t page = 4096;
        if (end.in_libtpms != 0 && end.at < page)
            return false;
        std::fprintf(
            stderr, "a fault in the jail: %s, %#llx from where libtpms is, touching %#llx\n",
            end.in_libtpms != 0 ? "libtpms' own" : "not in libtpms",
            static_cast<unsigned long long>(end.offset), static_cast<unsigned long long>(end.at));
        must(false, "a fault in the jail that docs/libtpms-findings.md does not know");
        return false;
    }

    int end() {
        socket_.reset();
        int status = 0;
        if (pid_ >= 0)
            ::waitpid(pid_, &status, 0);
        pid_ = -1;
        return status;
    }

    void start() {
        (void)end();
        auto pair = stream_socket_pair().value();
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        const int theirs = ::fcntl(pair.second.get(), F_DUPFD_CLOEXEC, 16);
        ::posix_spawn_file_actions_adddup2(&actions, theirs, 3);
        std::array<char*, 2> words = {const_cast<char*>(STATE_WORKER), nullptr};  // NOLINT
        const int failed =
            ::posix_spawn(&pid_, STATE_WORKER, &actions, nullptr, words.data(), environ);
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(theirs);
        must(failed == 0, "no worker");
        socket_ = std::move(pair.first);
        cases_ = 1;
    }

    Fd socket_;
    pid_t pid_ = -1;
    unsigned cases_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    ::signal(SIGPIPE, SIG_IGN);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static auto& jail = *new Jail;  // ends with us: its socket is closed
    Input input(data, size);
    const StateCase one = read_case(input);
    if (!one.permanent.empty() && jail.lives(one))
        fuzz::live(one);
    return 0;
}
