#include "vtpm/chip/esys_chip.h"

#include "approval.h"
#include "commit_cell.h"
#include "esys_connection.h"
#include "marshal.h"
#include "nv_counter.h"
#include "nv_index.h"
#include "sealing.h"
#include "storage_root_key.h"
#include "vtpm/chip/kernel_devices.h"
#include "vtpm/chip/policy.h"

namespace vtpm::chip {
namespace {

Result<void> check_size(std::size_t size, std::size_t limit) {
    if (size == 0)
        return fail(Errc::invalid_argument, "nothing to ask the chip for");
    if (size > limit)
        return fail(Errc::too_large, "more than the chip takes at once");
    return {};
}

}  // namespace

EsysChip::EsysChip(std::string tcti) : tcti_(std::move(tcti)) {}

EsysChip::~EsysChip() = default;

Result<std::unique_ptr<EsysChip>> EsysChip::open(const std::string& tcti) {
    std::unique_ptr<EsysChip> chip(new EsysChip(tcti));
    VTPM_CHECK(chip->connection());
    return chip;
}

Result<EsysConnection*> EsysChip::connection() {
    if (connection_ && connection_->broken())
        connection_.reset();
    if (!connection_) {
        VTPM_TRY(connection_, EsysConnection::open(present_tcti(tcti_)));
    }
    return connection_.get();
}

Result<Generation> EsysChip::generation() {
    VTPM_CHECK(connection());
    return Generation::tpm_2_0;
}

Result<ChipIdentity> EsysChip::identify() {
    VTPM_TRY(EsysConnection* const to, connection());
    return derive_identity(*to);
}

Result<void> EsysChip::expect(const ChipIdentity& identity) {
    if (is_tpm12(identity)) {
        return fail(Errc::wrong_chip, NextAction::ask_operator,
                    "the vault was set up with a TPM 1.2, and this chip is a TPM 2.0");
    }
    VTPM_CHECK(unmarshal_public(identity.srk_public));
    VTPM_TRY(EsysConnection* const to, connection());
    {
        // A session that the chip can take part in proves that it holds the private key: a public
        // area alone can be played back by anybody.
        VTPM_TRY(const LoadedHandle srk, load_srk(*to, identity));
        VTPM_CHECK(random_bytes(*to, srk, 1));
    }
    pinned_ = identity;
    return {};
}

template <typename Operation>
auto EsysChip::with_srk(Operation operation)
    -> decltype(operation(std::declval<EsysConnection&>(), std::declval<const LoadedHandle&>())) {
    if (!pinned_)
        return fail(Errc::invalid_argument, "no chip identity is pinned");
    VTPM_TRY(EsysConnection* const to, connection());
    auto result = [&]() -> decltype(operation(*to, std::declval<const LoadedHandle&>())) {
        VTPM_TRY(const LoadedHandle srk, load_srk(*to, *pinned_));
        return operation(*to, srk);
    }();
    if (to->broken()) {
        connection_.reset();
    } else {
        to->overwrite_buffers();
    }
    return result;
}

Result<SealedObject> EsysChip::seal(const SecretBytes& secret, const Binding& binding) {
    VTPM_CHECK(check_size(secret.size(), max_sealed_size));
    VTPM_TRY(const Digest policy, policy::digest_of(binding));
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) -> Result<SealedObject> {
        // What cannot be unsealed must not become the only copy: the chip has to be able to verify,
        // and to have what the policy asks for.
        bool closed = false;
        if (binding.approver) {
            VTPM_CHECK(check_key_in_chip(to, *binding.approver));
            VTPM_CHECK(read_nv_counter(to, srk, binding.approver->counter));
        }
        if (binding.latch) {
            VTPM_TRY(closed, nv_latch_closed(to, srk, *binding.latch));
        }
        VTPM_TRY(SealedObject sealed, create_sealed(to, srk, secret, policy));
        // The load also overwrites the plaintext that ESYS keeps of the last TPM2_Create.
        if (binding.approver || closed) {
            VTPM_CHECK(try_to_load(to, srk, sealed, policy));
            return sealed;
        }
        VTPM_TRY(const SecretBytes again, unseal_object(to, srk, sealed, binding, nullptr));
        if (!equal_constant_time(again.view(), secret.view())) {
            return fail(Errc::chip, NextAction::ask_operator,
                        "the chip unseals something else than it sealed");
        }
        return sealed;
    });
}

Result<SecretBytes> EsysChip::unseal(const SealedObject& sealed, const Binding& binding,
                                     const Approval* approval) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return unseal_object(to, srk, sealed, binding, approval);
    });
}

Result<PcrValues> EsysChip::read_pcrs(const std::vector<std::uint8_t>& numbers) {
    return with_srk(
        [&](EsysConnection& to, const LoadedHandle&) { return pcr_values(to, numbers); });
}

Result<Bytes> EsysChip::approver_key(std::string_view pem) {
    return policy::approver_key(pem);
}

Result<Digest> EsysChip::approver_fingerprint(ByteView key) {
    return policy::fingerprint(key);
}

Result<Bytes> EsysChip::words_to_sign(const Approver& approver, const PcrValues& pcrs,
                                      std::uint64_t limit) {
    return policy::words_to_sign(approver, pcrs, limit);
}

Result<void> EsysChip::check_approval(const Approver& approver, const Approval& approval) {
    return policy::check_approval(approver, approval);
}

Result<SecretBytes> EsysChip::random(std::size_t size) {
    VTPM_CHECK(check_size(size, max_random_size));
    return with_srk(
        [&](EsysConnection& to, const LoadedHandle& srk) { return random_bytes(to, srk, size); });
}

Result<CellIndex> EsysChip::define_cell(const SecretBytes& auth, const CellTag& tag) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return define_commit_cell(to, srk, auth, tag);
    });
}

Result<std::optional<CellValue>> EsysChip::read_cell(const Cell& cell, const SecretBytes& auth) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return read_commit_cell(to, srk, cell, auth);
    });
}

Result<CellValue> EsysChip::extend_cell(const Cell& cell, const SecretBytes& auth,
                                        const CellValue& digest) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return extend_commit_cell(to, srk, cell, auth, digest);
    });
}

Result<Counter> EsysChip::define_counter(const CellTag& tag) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return define_nv_counter(to, srk, tag);
    });
}

Result<Latch> EsysChip::define_latch(const CellTag& tag) {
    return with_srk(
        [&](EsysConnection& to, const LoadedHandle& srk) { return define_nv_latch(to, srk, tag); });
}

Result<std::uint64_t> EsysChip::read_counter(const Counter& counter) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return read_nv_counter(to, srk, counter);
    });
}

Result<std::uint64_t> EsysChip::increment_counter(const Counter& counter) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return increment_nv_counter(to, srk, counter);
    });
}

Result<void> EsysChip::close_latch(const Latch& latch) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return close_nv_latch(to, srk, latch);
    });
}

Result<bool> EsysChip::latch_closed(const Latch& latch) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return nv_latch_closed(to, srk, latch);
    });
}

Result<std::vector<CellIndex>> EsysChip::cells() {
    VTPM_TRY(EsysConnection* const to, connection());
    return cell_indices(*to);
}

Result<void> EsysChip::remove_cell(CellIndex index) {
    return with_srk(
        [&](EsysConnection& to, const LoadedHandle& srk) { return remove_index(to, srk, index); });
}

Result<void> EsysChip::remove_other_cells(const Cell& keep) {
    return with_srk([&](EsysConnection& to, const LoadedHandle& srk) {
        return remove_other_indices(to, srk, keep);
    });
}

}  // namespace vtpm::chip
