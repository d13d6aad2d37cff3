// A guest that remembers what its TPM has told it, and one of each version.
#pragma once

#include <array>
#include <functional>

#include "bench.h"

namespace vtpm::fakes {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
namespace v12 = tpm_commands::v12;

inline constexpr std::uint32_t pcr = 10;
inline constexpr std::uint16_t size = 32;

inline bool soon(const std::function<bool()>& condition,
                 std::chrono::seconds patience = std::chrono::seconds(10)) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end)
            return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
}

// A guest that remembers what its TPM has told it.
class User {
  public:
    User(SimHost& host, xen::DomainId domain, tpm::Version version)
        : host_(host), domain_(domain), version_(version), uuid_(host.create(version)) {
        start();
        REQUIRE(run(*guest_, old() ? v12::nv_define(size) : v20::nv_define(size)) == success);
        REQUIRE(write());
        extend();
    }

    // False: the TPM has refused, as it should when it cannot be made durable.
    bool write() { return wrote(try_write()); }
    // The two halves of write(), since an assertion belongs to the test's thread.
    Bytes try_write() {
        attempted_ = static_cast<std::uint8_t>(attempted_ + 1);
        const Bytes value(size, attempted_);
        return guest_->transmit(old() ? v12::nv_write(value) : v20::nv_write(value));
    }
    bool wrote(const Bytes& answer) {
        const auto code = code_of(answer);
        if (code == success)
            acknowledged_ = attempted_;
        else
            CHECK(code == (old() ? 0x1FU : nv_unavailable));  // TPM_IOERROR
        return code == success;
    }
    void extend() {
        const auto before = read();
        REQUIRE(run(*guest_, old() ? v12::extend(pcr, 1) : v20::pcr_extend(pcr, 1)) == success);
        pcr_ = read();
        CHECK(pcr_ != before);
    }
    // Makes each state that is written from now on a large one.
    void grow() {
        for (std::uint32_t more = 1; more <= 40; ++more) {
            const auto code = run(*guest_, v20::nv_define(2000, v20::nv_index + more));
            CHECK((code == success || code == nv_unavailable));
        }
    }
    // What changes nothing that lasts.
    void go_on() {
        const auto begin = Clock::now();
        CHECK(read() == pcr_);
        extend();
        CHECK(run(*guest_, old() ? v12::get_random(8) : v20::get_random(8)) == success);
        CHECK(Clock::now() - begin < 5s);
    }
    // After the trouble. What was refused may have been done meanwhile, but nothing else.
    void check() {
        CHECK(read() == pcr_);
        const auto found = stored();
        CHECK((found == acknowledged_ || found == attempted_));
        CHECK(write());
        CHECK(stored() == attempted_);
        go_on();
    }
    void next_life() {
        end();
        start_again();
    }
    void start_again() {
        domain_ = static_cast<xen::DomainId>(domain_ + 10);
        start();
        const auto found = stored();
        CHECK((found == acknowledged_ || found == attempted_));
        attempted_ = acknowledged_ = found;
        pcr_ = read();
    }
    void end() { CHECK(guest_->destroy()); }

    SimGuest& guest() { return *guest_; }

  private:
    bool old() const { return version_ == tpm::Version::v1_2; }
    void start() {
        guest_.emplace(host_, domain_, uuid_);
        boot(*guest_);
    }
    Bytes read() {
        if (!old())
            return read_pcr(*guest_, pcr);
        const Bytes answer = guest_->transmit(v12::pcr_read(pcr));
        REQUIRE(code_of(answer) == success);
        return answer;
    }
    std::uint8_t stored() {
        if (!old())
            return read_nv(*guest_, size).front();
        const Bytes answer = guest_->transmit(v12::nv_read(size));
        REQUIRE(code_of(answer) == success);
        return answer.back();
    }

    SimHost& host_;
    xen::DomainId domain_;
    tpm::Version version_;
    Uuid uuid_;
    std::optional<SimGuest> guest_;
    Bytes pcr_;
    std::uint8_t attempted_ = 0;
    std::uint8_t acknowledged_ = 0;
};

// Two guests on a host, one of each version.
struct Users {
    explicit Users(SimHost& host)
        : both{std::make_unique<User>(host, 5, tpm::Version::v1_2),
               std::make_unique<User>(host, 6, tpm::Version::v2_0)} {}
    void go_on() {
        for (auto& user : both)
            user->go_on();
    }
    // And no failure mode in the next life either.
    void check() {
        for (auto& user : both) {
            user->check();
            user->next_life();
            user->check();
        }
    }
    void end() {
        for (auto& user : both)
            user->end();
    }
    User& v1_2() { return *both[0]; }
    User& v2_0() { return *both[1]; }
    std::array<std::unique_ptr<User>, 2> both;
};

}  // namespace vtpm::fakes
