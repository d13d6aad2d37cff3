// FakeChip: a Chip in memory that can refuse, cheat and fail the nth call.
//
// Two fakes of the same seed are the same chip, in another process too. What it seals is hidden
// from nobody: this is for tests of what is built on a chip. One thread.
#pragma once

#include <functional>
#include <optional>

#include "vtpm/chip/chip.h"

namespace vtpm::fakes {

class FakeChip : public chip::Chip {
  public:
    explicit FakeChip(std::uint8_t seed = 1) : seed_(seed) {}

    // Every call from now on gives `error`; std::nullopt: works again.
    void refuse(std::optional<Error> error) { refusal_ = std::move(error); }
    // The nth call from now (1: the next) gives `error`, once.
    void fail_nth(int nth, Error error) {
        countdown_ = nth;
        failure_ = std::move(error);
    }
    // Changes every secret that is given out by unseal() or random().
    void cheat(std::function<void(SecretBytes&)> how) { cheat_ = std::move(how); }
    int calls() const { return calls_; }

    Result<chip::ChipIdentity> identify() override {
        VTPM_CHECK(enter());
        return identity();
    }

    Result<void> expect(const chip::ChipIdentity& wanted) override {
        VTPM_CHECK(enter());
        if (wanted.srk_name != identity().srk_name || wanted.srk_public != identity().srk_public) {
            return fail(Errc::wrong_chip, "not the chip of the set-up");
        }
        pinned_ = true;
        return {};
    }

    Result<chip::SealedObject> seal(const SecretBytes& secret) override {
        VTPM_CHECK(enter_pinned());
        if (secret.empty())
            return fail(Errc::invalid_argument, "nothing to seal");
        if (secret.size() > max_sealed_size)
            return fail(Errc::too_large, "too much to seal");
        chip::SealedObject sealed{Bytes{0, 1, seed_}, Bytes()};
        std::uint8_t sum = seed_;
        for (const auto byte : secret.view()) {
            sealed.private_area.push_back(static_cast<std::uint8_t>(byte ^ 0xa5U ^ seed_));
            sum = static_cast<std::uint8_t>(sum * 31 + byte);
        }
        sealed.private_area.push_back(sum);
        return sealed;
    }

    Result<SecretBytes> unseal(const chip::SealedObject& sealed) override {
        VTPM_CHECK(enter_pinned());
        if (sealed.public_area.size() != 3 || sealed.private_area.size() < 2) {
            return fail(Errc::corrupt, "not an object that was sealed by us");
        }
        SecretBytes secret(sealed.private_area.size() - 1);
        std::uint8_t sum = seed_;
        for (std::size_t i = 0; i < secret.size(); ++i) {
            secret.span()[i] = static_cast<std::uint8_t>(sealed.private_area[i] ^ 0xa5U ^ seed_);
            sum = static_cast<std::uint8_t>(sum * 31 + secret.view()[i]);
        }
        if (sealed.public_area != Bytes{0, 1, seed_} || sum != sealed.private_area.back()) {
            return fail(Errc::wrong_chip, "another chip sealed this, or it was changed since");
        }
        if (cheat_)
            cheat_(secret);
        return secret;
    }

    Result<SecretBytes> random(std::size_t size) override {
        VTPM_CHECK(enter_pinned());
        SecretBytes out(size);
        for (auto& byte : out.span())
            byte = static_cast<std::uint8_t>(state_ = state_ * 5 + 113);
        if (cheat_)
            cheat_(out);
        return out;
    }

  private:
    chip::ChipIdentity identity() const {
        Bytes name(34, seed_);
        name[0] = 0;
        name[1] = 0x0b;
        return {Bytes(90, seed_), name, "FAKE", "1.2.3.4"};
    }

    Result<void> enter() {
        ++calls_;
        if (countdown_ > 0 && --countdown_ == 0)
            return tl::make_unexpected(*failure_);
        if (refusal_)
            return tl::make_unexpected(*refusal_);
        return {};
    }

    Result<void> enter_pinned() {
        VTPM_CHECK(enter());
        if (!pinned_)
            return fail(Errc::invalid_argument, "no chip identity is pinned");
        return {};
    }

    std::uint8_t seed_;
    std::uint32_t state_ = 7;
    bool pinned_ = false;
    int calls_ = 0;
    int countdown_ = 0;
    std::optional<Error> failure_;
    std::optional<Error> refusal_;
    std::function<void(SecretBytes&)> cheat_;
};

}  // namespace vtpm::fakes
