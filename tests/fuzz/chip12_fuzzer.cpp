// A TPM 1.2, or somebody on its bus, that answers what it likes: libtpms on a socket, in this
// process, against Tpm12Chip.
//
// Who does not know the cell's authorization value can spoil a call, but not have it say what is
// not so: a secret comes back as it was sealed or not at all, and a cell's value is one that it may
// have. A chip that lies itself can say what it likes, in the sizes that the contract has.
#include <dlfcn.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <time.h>

#include <optional>
#include <set>

#include "lying_bus12.h"
#include "vtpm/chip/tpm12_chip.h"

using namespace vtpm;
using fuzz::auth;
using fuzz::Bus12;
using fuzz::Door;
using fuzz::extended;
using fuzz::filled;
using fuzz::Input;
using fuzz::must;
using fuzz::ok;
using fuzz::secret;
using fuzz::Snapshot;

namespace {

chip::PcrValues boot_of(std::uint8_t byte) {
    chip::Digest digest{};
    std::fill_n(digest.begin(), chip::tpm12::sha1_size, byte);
    return {{4, digest}, {7, digest}};
}

// A host that has been set up with an honest chip, once for all runs.
struct Prepared {
    chip::ChipIdentity identity;
    chip::Cell cell;
    chip::CellValue value{};
    chip::SealedObject here;       // for this boot, and another
    chip::SealedObject elsewhere;  // for another
    Bytes endorsement_key;
    Snapshot snapshot;

    static const Prepared& get() {
        static const Prepared prepared;
        return prepared;
    }

  private:
    Prepared() {
        Bus12 bus;
        chip::Tpm12Chip chip(Door::get().tcti());
        identity = ok(chip.identify());
        must(ok(chip.expect(identity)), "not itself");
        cell = {ok(chip.define_cell(auth(), filled(1))), filled(1)};
        value = ok(chip.extend_cell(cell, auth(), filled(7)));
        here = ok(chip.seal(secret(), {{}, {}, {ok(chip.read_pcrs({4, 7})), boot_of(9)}}));
        elsewhere = ok(chip.seal(secret(), {{}, {}, {boot_of(9)}}));
        endorsement_key = bus.endorsement_key;
        must(!endorsement_key.empty(), "no endorsement key");
        snapshot = bus.snapshot();
    }
};

// The same host in a later life of its manager; from now on the chip lies, or its bus.
class Host {
  public:
    explicit Host(Input& input) : input_(input) {
        bus_.endorsement_key = host_.endorsement_key;
        if (input.flag())
            bus_.cell_auth = chip::tpm12::sha1({auth_.view()});
        if (!input.flag())  // else it lies to who asks it for the first time
            must(ok(chip_->expect(host_.identity)), "not itself");
        bus_.meddler = &input;
    }

    void act() {
        switch (input_.pick(15)) {
            case 0:
                identify();
                break;
            case 1:
                if (const auto generation = succeeds(chip_->generation()))
                    must(*generation == chip::Generation::tpm_1_2, "another generation");
                break;
            case 2:
                expect();
                break;
            case 3:
                seal();
                break;
            case 4:
            case 5:
                unseal();
                break;
            case 6:
                random();
                break;
            case 7:
                read_pcrs();
                break;
            case 8:
                read_cell();
                break;
            case 9:
            case 10:
            case 11:
                extend_cell();
                break;
            case 12:
                other_cell();
                break;
            case 13:
                if (const auto cells = succeeds(chip_->cells()))
                    must(cells->size() <= 1024, "more cells than an answer holds");
                break;
            default:
                (void)succeeds(chip_->remove_other_cells({0x00560500, filled(5)}));
        }
    }

    // With an honest bus, and a new connection, all is as it was.
    void check() {
        bus_.meddler = nullptr;
        start_again();
        if (bus_.locked_out)
            return;   // for a while, the chip gives nothing to anybody
        read_cell();  // that it unseals what it has sealed, expect() has seen
        must(lies() || values_.size() == 1, "the cell could be anything");
    }

  private:
    // As the manager would.
    void start_again() {
        chip_.emplace(Door::get().tcti());
        const auto expected = chip_->expect(host_.identity);
        if (!bus_.locked_out)
            (void)ok(expected);
    }
    bool lies() const { return bus_.cell_auth.has_value(); }
    bool same(const SecretBytes& other) const {
        return equal_constant_time(other.view(), secret_.view());
    }

    // What was done although an answer to it did not come was not done.
    template <typename T>
    std::optional<T> succeeds(Result<T> result) {
        const bool lost = std::exchange(bus_.lost, false);
        if (!result) {
            must(!result.error().context.empty(), "an error without words");
            return std::nullopt;
        }
        must(!lost, "done, without the chip's answer");
        return std::move(*result);
    }
    bool succeeds(Result<void> result) {
        return succeeds(result ? Result<bool>(true) : tl::make_unexpected(result.error()))
            .has_value();
    }

    // What the chip itself has to say of what was done over its bus.
    template <typename Ask>
    void honestly(Ask ask) {
        if (lies())
            return;
        auto* const meddler = std::exchange(bus_.meddler, nullptr);
        start_again();
        if (!bus_.locked_out)
            ask();
        bus_.meddler = meddler;
    }

    void identify() {
        const auto identity = succeeds(chip_->identify());
        if (!identity)
            return;
        must(chip::is_tpm12(*identity), "not the identity of a TPM 1.2");
        must(identity->srk_public.size() <= 2048 && identity->srk_name.size() == 34 &&
                 identity->manufacturer.size() <= 4 && identity->firmware.size() <= 32,
             "an identity of another size");
        honestly([&] { must(ok(chip_->expect(*identity)), "not itself"); });
    }

    void expect() {
        chip::ChipIdentity identity = host_.identity;
        const bool right = !input_.rarely();
        if (!right)
            identity.srk_name[2 + input_.pick(32)] ^= 1;
        must(!succeeds(chip_->expect(identity)) || right, "it proves to be what it is not");
    }

    void seal() {
        const auto now = chip_->read_pcrs({4, 7});
        bus_.lost = false;
        const chip::PcrValues boot = now && input_.flag() ? *now : boot_of(9);
        const auto sealed = succeeds(chip_->seal(secret_, {{}, {}, {boot}}));
        if (!sealed)
            return;
        must(sealed->private_area.size() <= 2048, "sealed to more than a blob");
        honestly([&] {
            const auto secret = chip_->unseal(*sealed, {}, nullptr);
            if (secret)
                must(same(*secret), "what was sealed unseals to something else");
            else
                must(secret.error().code == Errc::not_approved, "what was sealed does not unseal");
        });
    }

    void unseal() {
        const bool of_this_boot = !input_.flag();
        chip::SealedObject sealed = of_this_boot ? host_.here : host_.elsewhere;
        if (input_.rarely())
            sealed.private_area = input_.changed(sealed.private_area);
        const auto secret = succeeds(chip_->unseal(sealed, {}, nullptr));
        if (!secret)
            return;
        must(!secret->empty() && secret->size() <= chip::Chip::max_sealed_size, "another size");
        if (lies())
            return;
        must(same(*secret), "another secret");
        must(of_this_boot, "another boot opens it");
    }

    void random() {
        const std::size_t size = input_.u16() % (chip::Chip::max_random_size + 2);
        if (const auto random = succeeds(chip_->random(size)))
            must(random->size() == size && size > 0 && size <= chip::Chip::max_random_size,
                 "another size");
    }

    void read_pcrs() {
        const std::vector<std::uint8_t> numbers{0, 7, static_cast<std::uint8_t>(input_.pick(25))};
        const auto pcrs = succeeds(chip_->read_pcrs(numbers));
        if (!pcrs)
            return;
        must(pcrs->size() == std::set(numbers.begin(), numbers.end()).size() &&
                 pcrs->contains(numbers.back()) && pcrs->rbegin()->first <= chip::Chip::max_pcr,
             "other PCRs");
        for (const auto& [number, value] : *pcrs)
            must(value[20] == 0 && value[31] == 0, "more than a SHA-1");
    }

    // Which of the values that it may have it has.
    void read_cell() {
        const auto value = succeeds(chip_->read_cell(host_.cell, auth_));
        if (!value || lies())
            return;
        const auto read = value->value_or(chip::CellValue{});
        must(values_.contains(read), "the cell has a value that it cannot have");
        values_ = {read};
    }
    void extend_cell() {
        const auto digest = filled(input_.u8());
        std::set<chip::CellValue> after;
        for (const auto& value : values_)
            after.insert(extended(value, digest));
        const auto value = succeeds(chip_->extend_cell(host_.cell, auth_, digest));
        if (!value) {
            values_.merge(after);
            return;
        }
        if (lies())
            return;
        must(after.contains(*value), "an extend that was none");
        values_ = {*value};
    }

    void other_cell() {
        const auto made = succeeds(chip_->define_cell(auth_, filled(5)));
        if (!made)
            return;
        must((*made & ~7U) == 0x00560500, "a cell in another place");
        honestly([&] {
            must(!ok(chip_->read_cell({*made, filled(5)}, auth_)), "a new cell that is not new");
        });
        if (input_.flag())
            (void)succeeds(chip_->remove_cell(*made));
    }

    const Prepared& host_ = Prepared::get();
    Input& input_;
    Bus12 bus_{host_.snapshot};
    std::optional<chip::Tpm12Chip> chip_{std::in_place, Door::get().tcti()};
    SecretBytes secret_ = secret();
    SecretBytes auth_ = auth();
    std::set<chip::CellValue> values_{host_.value};
};

// What OpenSSL has by this name.
template <auto hook>
auto of_openssl(const char* name) {
    static const auto theirs = reinterpret_cast<decltype(hook)>(::dlsym(RTLD_NEXT, name));
    must(theirs != nullptr, name);
    return theirs;
}

}  // namespace

// In the place of the C library's and OpenSSL's.
extern "C" {
ssize_t send(int fd, const void* bytes, std::size_t size, int flags) {
    const ssize_t sent = ::sendto(fd, bytes, size, flags, nullptr, 0);
    if (sent > 0 && Bus12::the_bus != nullptr)
        Bus12::the_bus->on_sent();
    return sent;
}
// What has not come will not come.
int poll(pollfd* about, nfds_t count, int) {
    if (Bus12::the_bus != nullptr)
        Bus12::the_bus->on_poll();
    constexpr timespec no_time{};
    return ::ppoll(about, count, &no_time, nullptr);
}
int nanosleep(const timespec*, timespec*) {
    return 0;
}
// libtpms makes a key whenever it starts, which takes longer than a run: always that of the
// host's first start.
int RSA_generate_key_ex(RSA* key, int bits, BIGNUM* exponent, BN_GENCB* callback) {
    static RSA* made = nullptr;
    if (made == nullptr) {
        made = ::RSA_new();
        must(of_openssl<&RSA_generate_key_ex>("RSA_generate_key_ex")(made, bits, exponent,
                                                                     callback) == 1,
             "no key is made");
    }
    must(::RSA_bits(made) == bits, "a key of another size");
    const auto copy = [](const BIGNUM* number) { return ::BN_dup(number); };
    ::RSA_set0_key(key, copy(::RSA_get0_n(made)), copy(::RSA_get0_e(made)),
                   copy(::RSA_get0_d(made)));
    return ::RSA_set0_factors(key, copy(::RSA_get0_p(made)), copy(::RSA_get0_q(made)));
}
// And as there is no other key, what it has decrypted once it need not again.
int EVP_PKEY_decrypt(EVP_PKEY_CTX* context, unsigned char* to, std::size_t* size,
                     const unsigned char* from, std::size_t from_size) {
    constexpr std::size_t enough = 4096;
    static std::map<Bytes, Bytes> known;
    const Bytes question(from, from + from_size);
    const auto answer = known.find(question);
    if (to != nullptr && answer != known.end() && *size >= answer->second.size()) {
        std::copy(answer->second.begin(), answer->second.end(), to);
        *size = answer->second.size();
        return 1;
    }
    const int done =
        of_openssl<&EVP_PKEY_decrypt>("EVP_PKEY_decrypt")(context, to, size, from, from_size);
    if (done == 1 && to != nullptr && known.size() < enough)
        known[question] = Bytes(to, to + *size);
    return done;
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    Host host(input);
    for (int turn = 0; turn < 16 && !input.empty(); ++turn)
        host.act();
    host.check();
    ::ERR_clear_error();  // else it counts as lost memory, and each run is done twice
    return 0;
}
}
