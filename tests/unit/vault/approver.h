// An approver for the vault's tests: a key pair in files, and signatures by the openssl program.
#pragma once

#include <cstdlib>

#include "fixture.h"

namespace vtpm::vault {

class Approver {
  public:
    explicit Approver(const std::string& options = "EC -pkeyopt ec_paramgen_curve:P-256") {
        run("genpkey -quiet -algorithm " + options + " -out " + path("key"));
        run("pkey -in " + path("key") + " -pubout -out " + path("pub"));
    }

    ApproverWish wish(std::vector<std::uint8_t> pcrs = {4, 7}) const {
        const Bytes pem = slurp(path("pub"));
        return {std::string(pem.begin(), pem.end()), std::move(pcrs)};
    }

    Bytes sign(const Bytes& words) const {
        spit(path("words"), words);
        run("dgst -sha256 -sign " + path("key") + " -out " + path("sig") + " " + path("words"));
        return slurp(path("sig"));
    }

    chip::Approval approval(const BootStatement& statement) const {
        return {statement.pcrs, statement.limit, sign(statement.words)};
    }

  private:
    std::string path(const char* name) const { return files_.path() / name; }
    static void run(const std::string& words) {
        INFO("openssl " << words);
        REQUIRE(std::system(("openssl " + words + " 2>/dev/null").c_str()) == 0);
    }
    TemporaryDirectory files_;
};

// A vault whose boots are approved by `approver` over PCRs 4 and 7.
struct BoundFixture : Fixture {
    Approver approver;

    BoundFixture() {
        measured(4, 0x44);
        measured(7, 0x77);
    }
    void measured(std::uint8_t pcr, std::uint8_t what) {
        chip::Digest value{};
        value.fill(what);
        chip.set_pcr(pcr, value);
    }
    void set_up_bound() {
        SetupWishes wishes;
        wishes.approver = approver.wish();
        REQUIRE(fine(vault->setup(wishes)));
    }
    Uuid default_group() { return vault->find_group("")->uuid; }
    chip::Approval signed_for(const Uuid& group, const chip::PcrValues& others = {},
                              bool outlives = false) {
        const auto statement = vault->statement(group, others, outlives);
        REQUIRE(fine(statement));
        return approver.approval(*statement);
    }
    void approve_this_boot() {
        REQUIRE(fine(vault->approve(default_group(), signed_for(default_group()))));
    }
    // The host is off for a moment, and boots what it measures then.
    void reboot() {
        vault.reset();
        chip.reset();
        vault.emplace(directory(), chip);
    }
};

}  // namespace vtpm::vault
