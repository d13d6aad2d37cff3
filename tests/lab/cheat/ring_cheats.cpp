#include <atomic>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "cheats.h"
#include "fakes/tpm_commands.h"

namespace vtpm::cheat {
namespace {

namespace v20 = tpm_commands::v20;
namespace state = xen::tpmif::state;
using xen::tpmif::Header;

constexpr auto header_size = sizeof(Header);

const Bytes& command() {
    static const Bytes bytes = v20::get_random(16);
    return bytes;
}

Header submit(std::size_t length, std::uint8_t locality = 0, std::uint8_t pages = 0) {
    return {static_cast<std::uint32_t>(length), state::submit, locality, 0, pages};
}

// Does something over and over in a second thread, for as long as it lives.
class Meanwhile {
  public:
    explicit Meanwhile(std::function<void()> what)
        : thread_([this, what = std::move(what)] {
              while (!ended_)
                  what();
          }) {}
    Meanwhile(const Meanwhile&) = delete;
    Meanwhile& operator=(const Meanwhile&) = delete;
    ~Meanwhile() {
        ended_ = true;
        thread_.join();
    }

  private:
    std::atomic<bool> ended_ = false;
    std::thread thread_;
};

void store(std::uint8_t* to, std::uint32_t value) {
    __atomic_store_n(reinterpret_cast<std::uint32_t*>(to), value, __ATOMIC_RELAXED);  // NOLINT
}

// Submits the same good command again and again while somebody changes the page under it.
void submit_until(Cheater& guest, Clock::time_point end, Tally& tally) {
    unsigned times = 0;
    for (; Clock::now() < end; ++times) {
        guest.put(submit(command().size()), command());
        guest.ring();
        // On a guest's only processor the other thread needs its turns.
        std::this_thread::yield();
    }
    tally["submitted"] = std::to_string(times);
}

// A good command with each value of one byte of the header, all of them at least once.
void all_values(Cheater& guest, Milliseconds time, Tally& tally,
                const std::function<Header(std::uint8_t)>& header_with) {
    const auto end = Clock::now() + time;
    unsigned rounds = 0;
    unsigned good = 0;
    unsigned unanswered = 0;
    for (; rounds == 0 || Clock::now() < end; ++rounds) {
        for (unsigned value = 0; value < 256; ++value) {
            if (!guest.answered(header_with(static_cast<std::uint8_t>(value)), command()))
                ++unanswered;
            else if (guest.page().header().length > header_size + 2)  // more than an error
                ++good;
        }
    }
    tally["rounds"] = std::to_string(rounds);
    tally["unanswered"] = std::to_string(unanswered);
    tally["good"] = std::to_string(good);
}

}  // namespace

void storm(Cheater& guest, Milliseconds time, Tally& tally) {
    const auto end = Clock::now() + time;
    unsigned long events = 0;
    while (Clock::now() < end) {
        for (int i = 0; i < 100; ++i)
            guest.ring();
        events += 100;
    }
    tally["events"] = std::to_string(events);
}

void storm_rsa(Cheater& guest, Milliseconds time, Tally& tally) {
    const auto end = Clock::now() + time;
    unsigned long events = 0;
    unsigned keys = 0;
    while (Clock::now() < end) {
        const Bytes create = v20::create_primary_rsa(static_cast<std::uint8_t>(keys));
        guest.put(submit(create.size()), create);
        do {
            guest.ring();
            ++events;
        } while (guest.page().state() == state::submit && Clock::now() < end);
        if (guest.page().state() == state::finish) {
            ++keys;
            guest.forget_key();
        }
    }
    // Lets go of the key in the making, as every program may.
    guest.page().publish(state::cancel);
    guest.ring();
    tally["events"] = std::to_string(events);
    tally["keys"] = std::to_string(keys);
}

void flood(Cheater& guest, Milliseconds time, Tally& tally) {
    const auto end = Clock::now() + time;
    unsigned answers = 0;
    while (Clock::now() < end) {
        guest.put(submit(command().size()), command());
        guest.ring();
        while (guest.page().state() == state::submit && Clock::now() < end) {
        }
        ++answers;
    }
    tally["answers"] = std::to_string(answers);
}

void lengths(Cheater& guest, Milliseconds time, Tally& tally) {
    const auto size = static_cast<std::uint32_t>(command().size());
    const Meanwhile other([&] {
        for (const std::uint32_t length : {4088U, 0U, 9U, size, 4089U, 0x7fffffffU, 0xffffffffU})
            store(guest.raw(), length);
    });
    submit_until(guest, Clock::now() + time, tally);
}

void states(Cheater& guest, Milliseconds time, Tally& tally) {
    const Meanwhile other([&] {
        for (unsigned value = 0; value < 256; ++value) {
            for (const unsigned last : {value, unsigned{state::submit}, unsigned{state::cancel}})
                guest.page().publish(static_cast<std::uint8_t>(last));
            guest.ring();
        }
    });
    submit_until(guest, Clock::now() + time, tally);
}

void headers(Cheater& guest, Milliseconds time, Tally& tally) {
    std::minstd_rand random(1);
    const Meanwhile other([&] {
        for (std::size_t i = 0; i < 32; i += 4)
            store(guest.raw() + i, static_cast<std::uint32_t>(random()));
        guest.page().publish(state::submit);
    });
    submit_until(guest, Clock::now() + time, tally);
}

void localities(Cheater& guest, Milliseconds time, Tally& tally) {
    all_values(guest, time, tally,
               [](std::uint8_t value) { return submit(command().size(), value); });
}

void pages(Cheater& guest, Milliseconds time, Tally& tally) {
    all_values(guest, time, tally,
               [](std::uint8_t value) { return submit(command().size(), 0, value); });
}

// Commands that nobody hears of, and at last an event for all of them.
void silent(Cheater& guest, Milliseconds time, Tally& tally) {
    // Whatever the connection itself rang for, and the engine's second look after a command.
    guest.transmit(command());
    std::this_thread::sleep_for(Milliseconds(500));
    guest.put(submit(command().size()), command());
    std::this_thread::sleep_for(time);
    tally["unheard"] = guest.page().state() == state::submit ? "1" : "0";
    const bool answered = guest.answered(submit(command().size()), command());
    tally["unanswered"] = answered ? "0" : "1";
}

}  // namespace vtpm::cheat
