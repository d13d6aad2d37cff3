// A TPM's state as a hostile disk or another host's swtpm would have it: what libtpms wrote, with
// bytes changed and, for a TPM 1.2, the digest over them made right again; then the guest's first
// commands. What libtpms makes of it happens in the engine's jail; here it must not break us, and
// must not be taken for a new TPM.
#include <openssl/bn.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

#include <csetjmp>
#include <csignal>
#include <map>

#include "fakes/tpm_commands.h"
#include "input.h"
#include "vtpm/engine/libtpms_engine.h"
#include "vtpm/tpm/message.h"

using namespace vtpm;
using engine::LibtpmsEngine;
using engine::StateBlob;
using engine::StateKind;
using fuzz::Input;
using fuzz::must;
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

void use(LibtpmsEngine& tpm, Version version, Input& input) {
    namespace v12 = tpm_commands::v12;
    namespace v20 = tpm_commands::v20;
    const std::array commands =
        version == Version::v1_2
            ? std::array{v12::get_random(8), v12::pcr_read(3), v12::extend(3, 1), v12::read_pubek(),
                         v12::get_random(4000)}
            : std::array{v20::get_random(8), v20::pcr_read(16), v20::nv_define(8), v20::nv_read(8),
                         v20::pcr_read(0)};
    for (int i = 0; i < 4 && !input.empty(); ++i) {
        Bytes response(4096);
        const auto size = tpm.execute(input.rarely_changed(input.one_of(commands)),
                                      static_cast<std::uint8_t>(input.pick(5)), response);
        const auto header = tpm::parse_header(ByteView(response).first(size));
        must(header && header->size == size, "an answer of another size");
    }
    (void)tpm.take_changes();
    if (input.flag())
        (void)tpm.volatile_state();
    else
        tpm.power_off();
}

sigjmp_buf after_the_fault;

// The first of docs/libtpms-findings.md, to look behind it: libtpms reads from a null pointer when
// a TPM 1.2 fails its self test at power on. True if it did.
template <typename Action>
bool known_fault(const Action& action) {
    struct sigaction ours {};
    struct sigaction before {};
    ours.sa_flags = SA_SIGINFO;
    ours.sa_sigaction = [](int number, siginfo_t* info, void*) {
        if (info->si_code > 0 && info->si_addr == nullptr)
            siglongjmp(after_the_fault, 1);
        ::signal(number, SIG_DFL);  // the same again, and the end
    };
    ::sigaction(SIGSEGV, &ours, &before);
    const bool fault = sigsetjmp(after_the_fault, 1) != 0;
    if (!fault)
        action();
    ::sigaction(SIGSEGV, &before, nullptr);
    return fault;
}

}  // namespace

// In the place of OpenSSL's: a TPM 1.2 makes a key to test itself each time that it starts, which
// would be nearly all that is done here. It gets one that was made before.
extern "C" int RSA_generate_key_ex(RSA* key, int bits, BIGNUM* exponent, BN_GENCB* progress) {
    static auto& made = *new std::map<int, RSA*>;  // for as long as the process lives
    if (!made.contains(bits)) {
        RSA* const fresh = RSA_new();
        must(RSA_generate_multi_prime_key(fresh, bits, 2, exponent, progress) == 1, "no key");
        made[bits] = fresh;
    }
    const RSA* const known = made.at(bits);
    const auto copy = [](const BIGNUM* number) { return BN_dup(number); };
    return static_cast<int>(
        RSA_set0_key(key, copy(RSA_get0_n(known)), copy(RSA_get0_e(known)),
                     copy(RSA_get0_d(known))) == 1 &&
        RSA_set0_factors(key, copy(RSA_get0_p(known)), copy(RSA_get0_q(known))) == 1);
}

// What the jump out of the known fault leaves behind would count as a leak.
extern "C" const char* __asan_default_options() {
    return "detect_leaks=0";
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    const auto version = input.flag() ? Version::v1_2 : Version::v2_0;
    const bool resumes = input.flag();
    Bytes permanent = good(version).permanent;
    Bytes running = resumes ? good(version).running : Bytes();
    Bytes& target = resumes && input.flag() ? running : permanent;
    target = changed(target, version, input);
    if (permanent.empty())
        return 0;
    bool on = false;
    engine::PowerOn start;
    start.version = version;
    start.blobs.push_back({StateKind::permanent, SecretBytes::copy_of(permanent)});
    if (input.rarely())
        start.blobs.push_back({StateKind::saved, SecretBytes::copy_of(running)});
    start.volatile_state = SecretBytes::copy_of(running);

    LibtpmsEngine tpm;
    if (!known_fault([&] { on = tpm.power_on(std::move(start)).has_value(); }) && on)
        use(tpm, version, input);
    return 0;
}
