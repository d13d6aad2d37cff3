// What the tests of approvals and of the latch share: an approver with the openssl command line,
// and a chip with PCRs, a counter and a latch.
#pragma once

#include "scene.h"

namespace vtpm::chip_tests {

inline Bytes read_file(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline void run_command(const std::string& line) {
    INFO(line);
    REQUIRE(std::system((line + " >/dev/null 2>&1").c_str()) == 0);
}

// Who signs boots, with nothing but openssl.
class Signer {
  public:
    Signer(const std::filesystem::path& directory, const std::string& options)
        : directory_(directory) {
        run_command("openssl genpkey -out " + file("key") + " " + options);
        run_command("openssl pkey -in " + file("key") + " -pubout -out " + file("pub"));
    }
    std::string pem() const { return text_of("pub"); }
    std::string private_pem() const { return text_of("key"); }
    Bytes sign(const Bytes& words) const {
        write_file(file("words"), words);
        run_command("openssl dgst -sha256 -sign " + file("key") + " -out " + file("signature") +
                    " " + file("words"));
        return read_file(file("signature"));
    }

  private:
    std::string file(const std::string& name) const { return (directory_ / name).string(); }
    std::string text_of(const std::string& name) const {
        const Bytes bytes = read_file(file(name));
        return {bytes.begin(), bytes.end()};
    }
    std::filesystem::path directory_;
};

inline const std::string p256 = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
inline const std::string rsa2048 = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
inline const std::string rsa3072 = "-algorithm RSA -pkeyopt rsa_keygen_bits:3072";

inline chip::Digest filled(std::uint8_t fill) {
    chip::Digest digest{};
    digest.fill(fill);
    return digest;
}

inline const chip::Digest reference = filled(0x52);
inline const chip::CellTag counter_tag = filled(0xc0);
inline const chip::CellTag latch_tag = filled(0x1a);

// PCR := SHA-256(PCR | digest)
inline void extend_pcr(const fakes::Swtpm& swtpm, int number, const chip::Digest& digest) {
    tool(swtpm, "tpm2_pcrextend " + std::to_string(number) + ":sha256=" + to_hex(digest));
}

// A chip that is tapped, an approver of it, and what is bound to both.
struct ApprovalScene {
    explicit ApprovalScene(const std::string& key = p256, bool with_latch = false)
        : swtpm(directory.path() / "chip"),
          tap(directory.path(), swtpm.socket()),
          signer(directory.path(), key),
          chip(pinned(tap.tcti())) {
        auto public_key = chip->approver_key(signer.pem());
        REQUIRE(fine(public_key));
        auto counter = chip->define_counter(counter_tag);
        REQUIRE(fine(counter));
        binding.approver = chip::Approver{*public_key, reference, *counter};
        if (with_latch) {
            auto latch = chip->define_latch(latch_tag);
            REQUIRE(fine(latch));
            binding.latch = *latch;
        }
        auto made = chip->seal(secret_of(known), binding);
        REQUIRE(fine(made));
        sealed = *made;
    }

    chip::PcrValues pcrs(const std::vector<std::uint8_t>& numbers = {0, 4, 16, 23}) {
        auto values = chip->read_pcrs(numbers);
        REQUIRE(fine(values));
        return *values;
    }
    std::uint64_t counter_value() {
        auto value = chip->read_counter(binding.approver->counter);
        REQUIRE(fine(value));
        return *value;
    }
    chip::Approval approve(const chip::PcrValues& values, std::uint64_t limit) {
        auto words = chip->words_to_sign(*binding.approver, values, limit);
        REQUIRE(fine(words));
        REQUIRE(words->size() == 64);
        return {values, limit, signer.sign(*words)};
    }
    chip::Approval approve_now() { return approve(pcrs(), counter_value()); }

    Result<SecretBytes> unseal(const chip::Approval& approval) {
        return chip->unseal(sealed, binding, &approval);
    }
    bool opens(const chip::Approval& approval) {
        const auto secret = unseal(approval);
        return fine(secret) && equal_constant_time(secret->view(), as_bytes(known));
    }
    Errc refusal(const chip::Approval& approval) {
        const auto secret = unseal(approval);
        REQUIRE_FALSE(secret);
        UNSCOPED_INFO(secret.error().context);
        return secret.error().code;
    }
    void reset_chip() {
        swtpm.restart();
        chip = pinned(tap.tcti());
    }

    fakes::TemporaryDirectory directory;
    fakes::Swtpm swtpm;
    fakes::SocketTap tap;
    Signer signer;
    std::unique_ptr<chip::EsysChip> chip;
    chip::Binding binding;
    chip::SealedObject sealed;
};

}  // namespace vtpm::chip_tests
