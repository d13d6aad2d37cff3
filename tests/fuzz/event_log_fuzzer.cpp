// The firmware's event log, as `vtpmctl approve next` reads it: a log that is put together event by
// event, with some of it as no firmware would write it, or any bytes.
#include <openssl/sha.h>

#include "input.h"
#include "prediction.h"
#include "tests/unit/vtpmctl/log_builder.h"

using namespace vtpm;
using namespace vtpm::control;
using fuzz::Input;
using fuzz::must;

namespace {

const std::array things = {"firmware", "shim", "grub", "kernel", "initrd", "policy"};

class Log {
  public:
    explicit Log(Input& input) : input_(input) {
        builder_.begin();
        if (input.flag()) {
            locality_ = input.u8();
            builder_.locality(locality_);
        }
        const std::size_t events = input.pick(40);
        for (std::size_t i = 0; i < events; ++i)
            event();
    }

    // Whether it is one that firmware would write.
    bool sound() const { return sound_; }
    const Bytes& bytes() const { return builder_.written(); }

    // What the PCRs come to, by somebody else's arithmetic.
    PcrValues replay() const {
        PcrValues values;
        for (std::uint8_t pcr = 0; pcr <= max_pcr; ++pcr)
            values[pcr].fill(pcr >= 17 && pcr <= 22 ? 0xff : 0);
        values[0].back() = locality_;
        for (const auto& [pcr, digest] : measured_) {
            Bytes both(values.at(pcr).begin(), values.at(pcr).end());
            both.insert(both.end(), digest.begin(), digest.end());
            ::SHA256(both.data(), both.size(), values.at(pcr).data());
        }
        return values;
    }

  private:
    void event() {
        const std::string what = things[input_.pick(things.size())];
        const auto pcr = static_cast<std::uint8_t>(input_.pick(24));
        if (!input_.rarely()) {
            builder_.measure(pcr, what);
            measured_.emplace_back(pcr, tests::digest_of(what));
            return;
        }
        sound_ = false;
        switch (input_.pick(5)) {
            case 0:
                builder_.event(input_.edgy(), input_.edgy(), {}, input_.text(40));
                break;
            case 1:
                builder_.locality(input_.u8());
                break;
            case 2:  // a number of digests and algorithms of its own
                builder_.u32(pcr).u32(0x0d).u32(input_.edgy());
                for (std::size_t i = input_.pick(4); i > 0; --i)
                    builder_.u16(input_.flag() ? 0x000b : input_.u16()).zeros(input_.u8() % 70U);
                builder_.u32(input_.edgy());
                break;
            case 3:
                builder_.bytes(input_.bytes(60));
                break;
            default:
                builder_.begin();
        }
    }

    Input& input_;
    tests::LogBuilder builder_;
    std::vector<std::pair<std::uint8_t, PcrDigest>> measured_;
    std::uint8_t locality_ = 0;
    bool sound_ = true;
};

void use(const EventLog& log, Input& input) {
    std::vector<std::uint8_t> all;
    for (std::uint8_t pcr = 0; pcr <= max_pcr; ++pcr)
        all.push_back(pcr);
    const auto now = log.replay(all);
    must(now.size() == all.size(), "a PCR without a value");
    std::map<PcrDigest, PcrDigest> replacements;
    for (std::size_t i = input.pick(3); i > 0; --i)
        replacements[tests::digest_of(input.one_of(things))] = tests::digest_of("another");
    const auto next = predict(log, now, replacements);
    if (next)
        must(replacements.empty() == (*next == now), "another prediction");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    if (input.rarely()) {
        const Bytes raw(data + 1, data + size);
        if (const auto log = EventLog::parse(raw))
            use(*log, input);
        return 0;
    }
    const Log log(input);
    const auto parsed = EventLog::parse(log.bytes());
    if (log.sound()) {
        must(parsed.has_value(), "a sound log is refused");
        std::vector<std::uint8_t> all;
        const auto expected = log.replay();
        for (const auto& [pcr, value] : expected)
            all.push_back(pcr);
        must(parsed->replay(all) == expected, "other values of the PCRs");
    }
    if (parsed)
        use(*parsed, input);
    if (const auto damaged = EventLog::parse(input.changed(log.bytes())))
        use(*damaged, input);
    return 0;
}
