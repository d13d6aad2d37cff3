#include "event_log.h"

#include <catch2/catch.hpp>

#include "log_builder.h"
#include "prediction.h"

using namespace vtpm;
using namespace vtpm::control;
using tests::digest_of;
using tests::LogBuilder;
using tests::usual_log;

namespace {

PcrDigest extend(PcrDigest value, const PcrDigest& digest) {
    Bytes both(value.begin(), value.end());
    both.insert(both.end(), digest.begin(), digest.end());
    ::SHA256(both.data(), both.size(), value.data());
    return value;
}

PcrDigest locality_3() {
    PcrDigest value{};
    value.back() = 3;
    return value;
}

// What the chip would hold after usual_log().
PcrValues usual_pcrs() {
    return {{0, extend(locality_3(), digest_of("firmware"))},
            {4, extend(extend({}, digest_of("shim")), digest_of("kernel"))},
            {7, extend({}, digest_of("policy"))}};
}

EventLog parsed(const LogBuilder& log) {
    return EventLog::parse(log.written()).value();
}

Errc error_of(const LogBuilder& log) {
    const auto result = EventLog::parse(log.written());
    REQUIRE_FALSE(result.has_value());
    return result.error().code;
}

// All of an event but its list of digests and its data.
LogBuilder with_head(std::uint32_t pcr, std::uint32_t count) {
    return LogBuilder().begin().u32(pcr).u32(0x0d).u32(count);
}

}  // namespace

TEST_CASE("a log replays to what the chip computes") {
    const EventLog log = parsed(usual_log());
    CHECK(log.size() == 5);
    CHECK(log.replay({0, 4, 7}) == usual_pcrs());
    CHECK(log.replay({9}).at(9) == extend({}, digest_of("kernel")));
}

TEST_CASE("PCRs that nothing was measured into hold what they begin with") {
    const auto pcrs = parsed(LogBuilder().begin()).replay({0, 16, 17, 22, 23});
    PcrDigest ones;
    ones.fill(0xff);
    CHECK(pcrs == PcrValues{{0, {}}, {16, {}}, {17, ones}, {22, ones}, {23, {}}});
}

TEST_CASE("the locality of the start is where PCR 0 begins, and no other PCR") {
    const auto pcrs = parsed(LogBuilder().begin().locality(3)).replay({0, 1});
    CHECK(pcrs.at(0) == locality_3());
    CHECK(pcrs.at(1) == PcrDigest{});
}

TEST_CASE("the locality of the start comes once, and before PCR 0 is extended") {
    CHECK(error_of(LogBuilder().begin().measure(0, "x").locality(3)) == Errc::malformed);
    CHECK(error_of(LogBuilder().begin().locality(3).locality(4)) == Errc::malformed);
    CHECK(parsed(LogBuilder().begin().measure(4, "x").locality(3)).replay({0}).at(0) ==
          locality_3());
    const std::string too_long("StartupLocality\0\3\0", 18);
    CHECK(error_of(LogBuilder().begin().event(0, 3, {}, too_long)) == Errc::malformed);
}

TEST_CASE("EV_NO_ACTION extends nothing") {
    const auto log = parsed(LogBuilder().begin().event(4, 3, digest_of("x"), "y"));
    CHECK(log.replay({4}).at(4) == PcrDigest{});
    CHECK(log.places(digest_of("x")).empty());
}

TEST_CASE("a log that was cut off is refused, or is one of fewer events") {
    const Bytes whole = usual_log().written();
    std::size_t shorter = 0;
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const auto log = EventLog::parse(ByteView(whole).first(size));
        if (!log) {
            CHECK(log.error().code == (size < 32 + 16 ? log.error().code : Errc::malformed));
            continue;
        }
        ++shorter;
        CHECK(log->size() < 5);
        // Which is noticed where it matters.
        CHECK_FALSE(predict(*log, usual_pcrs(), {}).has_value());
    }
    // After the first event, and after each of the seven others but the last one.
    CHECK(shorter == 7);
}

TEST_CASE("no byte of a log makes it read beyond its end") {
    const Bytes whole = usual_log().written();
    for (std::size_t at = 0; at < whole.size(); ++at) {
        for (const int value : {0x00, 0x7f, 0x80, 0xff}) {
            Bytes copy = whole;
            copy[at] = static_cast<std::uint8_t>(value);
            Bytes exact(copy);  // its own allocation: a sanitizer sees what lies behind
            exact.shrink_to_fit();
            if (const auto log = EventLog::parse(exact))
                CHECK(log->size() <= 6);
        }
    }
}

TEST_CASE("counts and sizes that lie are refused") {
    CHECK(error_of(with_head(4, 3)) == Errc::malformed);
    CHECK(error_of(with_head(4, 0xffffffff)) == Errc::malformed);
    CHECK(error_of(with_head(4, 0).u32(0)) == Errc::malformed);  // nothing to extend
    CHECK(error_of(with_head(4, 1).u16(0x0004).zeros(20).u32(0)) == Errc::malformed);
    CHECK(error_of(with_head(4, 1).u16(0x000c).zeros(48).u32(0)) == Errc::malformed);
    CHECK(error_of(with_head(4, 2).u16(0x000b).zeros(32).u16(0x000b).zeros(32).u32(0)) ==
          Errc::malformed);
    CHECK(error_of(with_head(4, 1).u16(0x000b).zeros(32).u32(0xffffffff)) == Errc::malformed);
    CHECK(error_of(with_head(4, 1).u16(0x000b).zeros(32).u32(1)) == Errc::malformed);
    CHECK(error_of(with_head(24, 1).u16(0x000b).zeros(32).u32(0)) == Errc::malformed);
}

TEST_CASE("the first event has to be what it is, and to name SHA-256") {
    const auto first = [](std::uint32_t algorithms, const LogBuilder& list) {
        LogBuilder event;
        event.text("Spec ID Event03").u8(0).u32(0).u8(0).u8(2).u8(0).u8(2).u32(algorithms);
        event.bytes(list.written()).u8(0);
        return LogBuilder()
            .u32(0)
            .u32(3)
            .zeros(20)
            .u32(static_cast<std::uint32_t>(event.written().size()))
            .bytes(event.written());
    };
    CHECK(EventLog::parse(first(1, LogBuilder().u16(0x000b).u16(32)).written()).has_value());
    CHECK(error_of(first(1, LogBuilder().u16(0x0004).u16(20))) == Errc::unsupported);
    CHECK(error_of(first(1, LogBuilder().u16(0x000b).u16(20))) == Errc::malformed);
    CHECK(error_of(first(1, LogBuilder().u16(0x000b).u16(0))) == Errc::malformed);
    CHECK(error_of(first(0, LogBuilder())) == Errc::malformed);
    CHECK(error_of(first(17, LogBuilder().zeros(68))) == Errc::malformed);
    CHECK(error_of(first(0xffffffff, LogBuilder())) == Errc::malformed);
    CHECK(error_of(first(2, LogBuilder().u16(0x000b).u16(32))) == Errc::malformed);
    CHECK(error_of(first(2, LogBuilder().u16(0x000b).u16(32).u16(0x000b).u16(32))) ==
          Errc::malformed);
    CHECK(error_of(LogBuilder().u32(0).u32(3).zeros(20).u32(16).text("Spec ID Event02").u8(0)) ==
          Errc::unsupported);
    CHECK(error_of(LogBuilder().u32(1).u32(3).zeros(20).u32(0)) == Errc::malformed);
    CHECK(error_of(LogBuilder().u32(0).u32(8).zeros(20).u32(0)) == Errc::malformed);
    CHECK(error_of(LogBuilder().zeros(EventLog::max_size + 1)) == Errc::too_large);
}

TEST_CASE("a prediction replaces a digest wherever it was measured, and all at once") {
    const EventLog log = parsed(usual_log());
    PcrValues now = usual_pcrs();
    now[9] = extend({}, digest_of("kernel"));
    const auto next = predict(
        log, now,
        {{digest_of("kernel"), digest_of("shim")}, {digest_of("shim"), digest_of("new shim")}});
    REQUIRE(next.has_value());
    CHECK(next->at(0) == now.at(0));
    CHECK(next->at(7) == now.at(7));
    CHECK(next->at(4) == extend(extend({}, digest_of("new shim")), digest_of("shim")));
    CHECK(next->at(9) == extend({}, digest_of("shim")));
}

TEST_CASE("a log that does not replay to this boot predicts nothing, and says for which PCRs") {
    PcrValues now = usual_pcrs();
    now[4] = digest_of("something else");
    now[8] = digest_of("not in the log");
    const auto next =
        predict(parsed(usual_log()), now, {{digest_of("policy"), digest_of("new policy")}});
    REQUIRE_FALSE(next.has_value());
    CHECK(next.error().code == Errc::invalid_argument);
    CHECK(next.error().context.find("of PCR 4, 8,") != std::string::npos);
}

TEST_CASE("what is to be replaced has to be there, in a PCR that counts") {
    const EventLog log = parsed(usual_log().measure(9, "initrd"));
    const auto unknown = predict(log, usual_pcrs(), {{digest_of("nobody"), digest_of("x")}});
    REQUIRE_FALSE(unknown.has_value());
    CHECK(unknown.error().context.find("was not measured") != std::string::npos);
    const auto elsewhere = predict(log, usual_pcrs(), {{digest_of("initrd"), digest_of("x")}});
    REQUIRE_FALSE(elsewhere.has_value());
    CHECK(elsewhere.error().context.find("PCR 9") != std::string::npos);
}

TEST_CASE("without a log there is a way") {
    const auto log = read_event_log("/nonexistent/log");
    REQUIRE_FALSE(log.has_value());
    CHECK(log.error().code == Errc::unsupported);
    CHECK(log.error().context.find("--pcr N=HEX") != std::string::npos);
    CHECK(read_event_log("/dev/zero").error().code == Errc::too_large);
}
