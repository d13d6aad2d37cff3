#include <algorithm>
#include <array>
#include <thread>

#include "cheats.h"
#include "fakes/tpm_commands.h"

namespace vtpm::cheat {
namespace {

// vtpmd starts at most one engine a second for a guest, after the first few.
constexpr Milliseconds one_connection{1100};

void offer(Cheater& guest, const std::string& ring_ref) {
    guest.write("ring-ref", ring_ref);
    guest.write("state", "3");
}

}  // namespace

void orders(Cheater& guest, Milliseconds time, Tally& tally) {
    const auto pause = time / 600;
    std::array<char, 5> order = {'1', '3', '4', '5', '6'};
    unsigned writes = 0;
    do {
        for (const char state : order) {
            guest.write("state", std::string(1, state));
            std::this_thread::sleep_for(pause);
            ++writes;
        }
    } while (std::next_permutation(order.begin(), order.end()));
    tally["writes"] = std::to_string(writes);
}

// As fast as xenstore takes it; the values that no back end may swallow among good ones.
void rewrites(Cheater& guest, Milliseconds time, Tally& tally) {
    const std::string long_one(2000, '9');
    const auto end = Clock::now() + time;
    unsigned writes = 0;
    while (Clock::now() < end) {
        for (const std::string& value :
             {std::string("2"), std::string("0"), std::string("-1"), std::string("4294967295"),
              std::string("0x10"), std::string(""), long_one, std::string("8 9")}) {
            guest.write("ring-ref", value);
            guest.write("event-channel", value);
            guest.write("state", writes % 32 == 0 ? "3" : "4");
            writes += 3;
        }
        // A good ring, in the middle of it, for the next round to take away.
        required(guest.device().offer());
        writes += 2;
    }
    tally["writes"] = std::to_string(writes);
}

void grants(Cheater& guest, Milliseconds time, Tally& tally) {
    const auto end = Clock::now() + time;
    unsigned rounds = 0;
    for (; Clock::now() < end; ++rounds) {
        guest.connect();
        required(guest.grants().revoke());
        for (int i = 0; i < 100; ++i)
            guest.ring();
        // Granted again, while the old mapping lives: the same page's number, then others.
        const auto read_only = guest.grants().grant(0, Access::read_only);
        const auto foreign = guest.grants().grant(1, Access::read_write);
        for (const auto& ref : {read_only, foreign}) {
            if (!ref)
                throw std::runtime_error(ref.error().context);
            offer(guest, std::to_string(*ref));
            std::this_thread::sleep_for(one_connection);
        }
        offer(guest, std::to_string(2 + rounds % 6));  // reserved, and granted to nobody
        std::this_thread::sleep_for(one_connection);
    }
    tally["rounds"] = std::to_string(rounds);
}

// While its page is mapped and in use: the grant is gone, then it is another domain's, then another
// page's, then read-only; a command in each of these, and the end of a connection in one of them.
void entries(Cheater& guest, Milliseconds time, Tally& tally) {
    struct Entry {
        std::uint16_t flags;
        xen::DomainId peer;
        bool other_page;
    };
    // Xen's public/grant_table.h: GTF_invalid, GTF_permit_access, GTF_readonly.
    constexpr std::uint16_t none = 0;
    constexpr std::uint16_t permit = 1;
    constexpr std::uint16_t read_only = permit | 4;
    constexpr Milliseconds patience = std::chrono::seconds(10);
    const auto other = guest.grants().grant(0, Access::read_write);
    if (!other)
        throw std::runtime_error(other.error().context);
    const auto end = Clock::now() + time;
    unsigned rounds = 0;
    unsigned unanswered = 0;
    for (; rounds == 0 || Clock::now() < end; ++rounds) {
        for (const auto& lie : {Entry{none, 0, false}, Entry{permit, 1, false},
                                Entry{permit, 0, true}, Entry{read_only, 0, false}}) {
            guest.connect();
            const auto ref = guest.grants().ref();
            // An engine that had not mapped it yet could not do so any more.
            if (guest.transmit(tpm_commands::v20::get_random(16)).empty())
                throw std::runtime_error("no answer before the lie");
            required(write_entry(ref, lie.flags, lie.peer, lie.other_page ? *other : ref));
            for (int i = 0; i < 20; ++i) {
                guest.ring();
                unanswered +=
                    guest.transmit(tpm_commands::v20::get_random(16), patience).empty() ? 1U : 0U;
            }
            // The engine lets go of a grant that is not there any more.
            required(guest.device().close(std::chrono::seconds(60)));
            std::this_thread::sleep_for(one_connection);
        }
    }
    tally["rounds"] = std::to_string(rounds);
    tally["unanswered"] = std::to_string(unanswered);
}

}  // namespace vtpm::cheat
