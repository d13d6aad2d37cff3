// A chip, or somebody on its bus, that answers what it likes: libtpms behind tpm2-tss, in this
// process, with answers changed, exchanged, replayed and refused, against EsysChip.
//
// What EsysChip says is done, is done: a secret comes back as it was sealed or not at all, nothing
// opens that should not, and a cell's value is one that it has had.
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <time.h>
#include <tss2/tss2_tcti.h>
#include <tss2/tss2_tctildr.h>

#include <cstring>
#include <optional>
#include <set>

#include "lying_bus.h"
#include "vtpm/chip/esys_chip.h"

using namespace vtpm;
using fuzz::auth;
using fuzz::Bus;
using fuzz::extended;
using fuzz::filled;
using fuzz::Input;
using fuzz::must;
using fuzz::ok;
using fuzz::secret;
using fuzz::Snapshot;

namespace {

struct Key {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    std::string pem() const {
        BIO* const out = BIO_new(BIO_s_mem());
        PEM_write_bio_PUBKEY(out, key);
        char* text = nullptr;
        const auto size = BIO_get_mem_data(out, &text);
        std::string pem(text, static_cast<std::size_t>(size));
        BIO_free(out);
        return pem;
    }
    Bytes sign(ByteView words) const {
        EVP_MD_CTX* const context = EVP_MD_CTX_new();
        Bytes signature(128);
        std::size_t size = signature.size();
        must(EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key) == 1 &&
                 EVP_DigestSign(context, signature.data(), &size, words.data(), words.size()) == 1,
             "nothing is signed");
        EVP_MD_CTX_free(context);
        signature.resize(size);
        return signature;
    }
};

// A host that has been set up with an honest chip, once for all runs.
struct Prepared {
    Key key;
    chip::ChipIdentity identity;
    chip::Cell cell;
    chip::Counter counter;
    chip::Latch latch;
    chip::Approver approver;
    std::uint64_t limit = 0;
    chip::SealedObject plain;
    chip::SealedObject bound;
    Snapshot snapshot;

    static const Prepared& get() {
        static const Prepared prepared;
        return prepared;
    }

  private:
    Prepared() {
        Bus bus;
        chip::EsysChip chip("fuzz");
        identity = ok(chip.identify());
        must(ok(chip.expect(identity)), "not itself");
        cell = {ok(chip.define_cell(auth(), filled(1))), filled(1)};
        counter = ok(chip.define_counter(filled(2)));
        latch = ok(chip.define_latch(filled(3)));
        approver = {ok(chip.approver_key(key.pem())), filled(4), counter};
        limit = ok(chip.read_counter(counter));
        plain = ok(chip.seal(secret(), {}));
        bound = ok(chip.seal(secret(), {approver, latch}));
        snapshot = bus.snapshot();
    }
};

// The same host in a later life of its manager; from now on the chip lies.
class Host {
  public:
    explicit Host(Input& input) : input_(input) {
        must(ok(chip_->expect(host_.identity)), "not itself");
        bus_.meddler = &input;
    }

    void act() {
        switch (input_.pick(12)) {
            case 0:
                (void)chip_->identify();
                break;
            case 1:
                if (const auto identity = chip_->identify())
                    (void)chip_->expect(*identity);
                break;
            case 2:
                seal();
                break;
            case 3:
            case 4:
                unseal();
                break;
            case 5:
                if (const auto random = chip_->random(1 + input_.u8()))
                    must(!random->empty() && random->size() <= 256, "another size");
                break;
            case 6:
                (void)chip_->read_pcrs({0, 4, 7, static_cast<std::uint8_t>(input_.u8() % 24)});
                break;
            case 7:
                read_cell();
                break;
            case 8:
                extend_cell();
                break;
            case 9:
                counter();
                break;
            case 10:
                latch();
                break;
            default:
                other_indices();
        }
    }

    // With an honest chip again, all is as it was said to be.
    void check() {
        bus_.meddler = nullptr;
        start_again();
        must(same(ok(chip_->unseal(host_.plain, {}, nullptr))), "another secret");
        read_cell();
        must(cell_values_.size() == 1, "the cell could be anything");
        must(ok(chip_->read_counter(host_.counter)) >= highest_, "a count that never was");
        latch();
    }

  private:
    // As the manager would. What was loaded when an answer was lost fills the chip until then.
    void start_again() {
        chip_.emplace("fuzz");
        must(ok(chip_->expect(host_.identity)), "another chip than at the beginning");
    }
    bool same(const SecretBytes& other) const {
        return equal_constant_time(other.view(), secret_.view());
    }

    void seal() {
        chip::Binding binding;
        if (input_.flag())
            binding.latch = host_.latch;
        if (const auto sealed = chip_->seal(secret_, binding); sealed && !binding.latch) {
            auto* const meddler = std::exchange(bus_.meddler, nullptr);
            start_again();
            must(same(ok(chip_->unseal(*sealed, {}, nullptr))), "what was sealed does not unseal");
            bus_.meddler = meddler;
        }
    }

    void unseal() {
        if (input_.flag()) {
            if (const auto secret = chip_->unseal(host_.plain, {}, nullptr))
                must(same(*secret), "another secret");
            return;
        }
        const bool right_boot = input_.flag();
        const bool in_time = input_.flag();
        chip::Approval approval;
        approval.pcrs[7] = filled(right_boot ? 0 : 1);
        approval.limit = in_time ? ~std::uint64_t{0} >> 1U : host_.limit - 1;
        approval.signature =
            host_.key.sign(ok(chip_->words_to_sign(host_.approver, approval.pcrs, approval.limit)));
        const bool of_us = !input_.rarely();
        if (!of_us)
            approval.signature = input_.changed(approval.signature);
        const auto secret = chip_->unseal(host_.bound, {host_.approver, host_.latch}, &approval);
        if (!secret)
            return;
        must(same(*secret), "another secret");
        must(right_boot, "a boot that nobody approved opens it");
        must(in_time, "a revoked approval opens it");
        must(!closed_, "a closed latch opens it");
    }

    // Which of the values that it may have it has.
    void read_cell() {
        const auto value = chip_->read_cell(host_.cell, auth_);
        if (!value || (!*value && bus_.meddler != nullptr))
            return;  // "never written" is a refusal, which is not authenticated
        const auto read = value->value_or(chip::CellValue{});
        must(cell_values_.contains(read), "the cell has a value that it never had");
        cell_values_ = {read};
    }
    void extend_cell() {
        const auto digest = filled(input_.u8());
        std::set<chip::CellValue> after;
        for (const auto& value : cell_values_)
            after.insert(extended(value, digest));
        const auto value = chip_->extend_cell(host_.cell, auth_, digest);
        if (!value) {
            cell_values_.merge(after);
            return;
        }
        must(after.contains(*value), "an extend that was none");
        cell_values_ = {*value};
    }

    void counter() {
        if (input_.flag()) {
            const auto before = highest_;
            if (const auto value = chip_->increment_counter(host_.counter)) {
                must(*value > before, "an increment that was none");
                highest_ = *value;
            }
        } else if (const auto value = chip_->read_counter(host_.counter)) {
            must(*value >= highest_ && *value >= host_.limit, "the counter went back");
            highest_ = *value;
        }
    }

    void latch() {
        if (bus_.meddler != nullptr && input_.flag()) {
            closing_ = true;
            if (chip_->close_latch(host_.latch))
                closed_ = true;
        } else if (const auto closed = chip_->latch_closed(host_.latch)) {
            must(!closed_ || *closed, "a closed latch is said to be open");
            must(!*closed || closing_, "an open latch is said to be closed");
            closed_ = *closed;
        }
    }

    void other_indices() {
        if (const auto made = chip_->define_cell(auth_, filled(5)))
            (void)chip_->remove_cell(*made);
        if (input_.rarely())
            (void)chip_->remove_other_cells({0x01800180, filled(5)});
    }

    const Prepared& host_ = Prepared::get();
    Input& input_;
    Bus bus_{host_.snapshot};
    std::optional<chip::EsysChip> chip_{std::in_place, "fuzz"};
    SecretBytes secret_ = secret();
    SecretBytes auth_ = auth();
    std::uint64_t highest_ = 0;
    std::set<chip::CellValue> cell_values_{chip::CellValue{}};
    bool closing_ = false;  // may be closed
    bool closed_ = false;   // is
};

TSS2_RC transmit(TSS2_TCTI_CONTEXT*, std::size_t size, const std::uint8_t* command) {
    return Bus::the_bus->transmit({command, size});
}
TSS2_RC receive(TSS2_TCTI_CONTEXT*, std::size_t* size, std::uint8_t* answer, std::int32_t) {
    return Bus::the_bus->receive(size, answer);
}
void finalize(TSS2_TCTI_CONTEXT*) {}
TSS2_RC cancel(TSS2_TCTI_CONTEXT*) {
    return TSS2_RC_SUCCESS;
}
TSS2_RC set_locality(TSS2_TCTI_CONTEXT*, std::uint8_t) {
    return TSS2_RC_SUCCESS;
}

TSS2_TCTI_CONTEXT_COMMON_V1 the_tcti{};

}  // namespace

// In the place of the libraries' own.
extern "C" {
TSS2_RC Tss2_TctiLdr_Initialize(const char*, TSS2_TCTI_CONTEXT** context) {
    the_tcti.magic = 0x66757a7a;
    the_tcti.version = 1;
    the_tcti.transmit = transmit;
    the_tcti.receive = receive;
    the_tcti.finalize = finalize;
    the_tcti.cancel = cancel;
    the_tcti.setLocality = set_locality;
    *context = reinterpret_cast<TSS2_TCTI_CONTEXT*>(&the_tcti);
    return TSS2_RC_SUCCESS;
}
void Tss2_TctiLdr_Finalize(TSS2_TCTI_CONTEXT** context) {
    *context = nullptr;
}
// Nobody waits for a chip that says it is busy.
int nanosleep(const timespec*, timespec*) {
    return 0;
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    Host host(input);
    for (int turn = 0; turn < 16 && !input.empty(); ++turn)
        host.act();
    host.check();
    return 0;
}
}
