// swtpm's format, against the swtpm of this machine.
#include "swtpm_fixture.h"

using namespace vtpm;
using namespace vtpm::control;
using Catch::Matchers::Contains;

namespace {

const std::string cipher = "hex, 256 bits";

Result<SecretBytes> opened(ByteView blob, const Sample& with) {
    return open_swtpm_blob(blob, with.key_or_null());
}

Bytes with_header(std::uint8_t version, std::uint8_t least, std::uint16_t flags,
                  const Bytes& parts) {
    return ByteWriter()
        .u8(version)
        .u8(least)
        .u16(10)
        .u16(flags)
        .u32(static_cast<std::uint32_t>(10 + parts.size()))
        .bytes(parts)
        .take();
}

Bytes part(std::uint16_t tag, ByteView content) {
    return ByteWriter().u16(tag).sized(content).take();
}

}  // namespace

TEST_CASE("a state of swtpm's opens to what libtpms gave it") {
    for (const auto version : {tpm::Version::v1_2, tpm::Version::v2_0}) {
        for (const auto& how : keepings()) {
            INFO("TPM " << tpm::to_string(version) << ", " << how.name);
            Source source(version, how);
            const Bytes& envelope = source.given_out();
            source.stop();
            const auto state = source.read();
            INFO(reason_of(state));
            REQUIRE(state);
            CHECK(state->version == version);
            CHECK(state->left_out.empty());
            // A header and two times a tag and a length around it.
            REQUIRE(envelope.size() == 22 + state->permanent.size());
            CHECK(
                std::equal(envelope.begin() + 22, envelope.end(), state->permanent.view().begin()));
            const auto key = source.key();
            CHECK(error_of(open_swtpm_blob(envelope, key ? &*key : nullptr)) == Errc::unsupported);
        }
    }
}

TEST_CASE("an encrypted state of which a bit is changed is refused") {
    for (const std::string how : {"hex, 128 bits", "hex, 256 bits"}) {
        const Sample& good = sample(how);
        Bytes blob = good.blob;
        REQUIRE(opened(blob, good));
        for (std::size_t at = 0; at < blob.size(); ++at) {
            for (unsigned bit = 0; bit < 8; ++bit) {
                blob[at] = static_cast<std::uint8_t>(blob[at] ^ (1U << bit));
                if (opened(blob, good)) {
                    FAIL_CHECK(how << ": byte " << at << " bit " << bit);
                }
                blob[at] = good.blob[at];
            }
        }
    }
}

TEST_CASE("of a state in clear the frame is checked") {
    const Sample& good = sample("in clear");
    Bytes blob = good.blob;
    REQUIRE(opened(blob, good));
    for (std::size_t at = 0; at < 16; ++at) {
        for (unsigned bit = 0; bit < 8; ++bit) {
            blob[at] = static_cast<std::uint8_t>(blob[at] ^ (1U << bit));
            INFO("byte " << at << " bit " << bit);
            CHECK_FALSE(opened(blob, good).has_value());
            blob[at] = good.blob[at];
        }
    }
}

TEST_CASE("a state that is cut or grown is refused") {
    for (const std::string how : {"in clear", "hex, 128 bits", "hex, 256 bits"}) {
        const Sample& good = sample(how);
        for (std::size_t size = 0; size < good.blob.size(); ++size) {
            if (opened(ByteView(good.blob).first(size), good)) {
                FAIL_CHECK(how << ": cut at " << size);
            }
            // Its header tells of the cut.
            if (size < 10)
                continue;
            Bytes honest = with_header(
                2, 1,
                how == "in clear" ? 0
                : how == cipher   ? 9
                                  : 1,
                {good.blob.begin() + 10, good.blob.begin() + static_cast<std::ptrdiff_t>(size)});
            if (opened(honest, good)) {
                FAIL_CHECK(how << ": rewritten at " << size);
            }
        }
        Bytes grown = good.blob;
        grown.push_back(0);
        CHECK(error_of(opened(grown, good)) == Errc::corrupt);
    }
}

TEST_CASE("keys that do not fit, or that nobody asked for") {
    const Sample& clear = sample("in clear");
    const Sample& of_128 = sample("hex, 128 bits");
    const Sample& of_256 = sample(cipher);
    const Sample& other = sample("binary");
    CHECK(error_of(open_swtpm_blob(of_256.blob, nullptr)) == Errc::invalid_argument);
    CHECK(error_of(opened(clear.blob, of_256)) == Errc::invalid_argument);
    for (const auto* wrong : {&other, &of_128, &sample("passphrase")}) {
        CHECK(error_of(opened(of_256.blob, *wrong)) == Errc::corrupt);
    }
    CHECK_THAT(reason_of(opened(of_256.blob, other)), Contains("key is not the one"));
    CHECK_THAT(reason_of(opened(of_128.blob, of_256)), Contains("128 bits"));
}

TEST_CASE("formats that are not ours to read") {
    const Bytes state(40, 1);
    REQUIRE(open_swtpm_blob(with_header(2, 1, 0, part(1, state)), nullptr));
    REQUIRE(open_swtpm_blob(with_header(2, 2, 0, part(1, state)), nullptr));
    CHECK_THAT(reason_of(open_swtpm_blob(with_header(3, 3, 0, part(1, state)), nullptr)),
               Contains("newer swtpm"));
    CHECK_THAT(reason_of(open_swtpm_blob(with_header(2, 1, 0x20, part(1, state)), nullptr)),
               Contains("newer swtpm"));
    CHECK_THAT(reason_of(open_swtpm_blob(state, nullptr)), Contains("no header"));
    for (const std::uint16_t flags : Bytes{2, 4, 6, 16, 22}) {
        CHECK_THAT(reason_of(open_swtpm_blob(with_header(2, 1, flags, part(4, state)), nullptr)),
                   Contains("migration"));
    }
    Bytes twice = part(1, state);
    twice.insert(twice.end(), twice.begin(), twice.end());
    for (const Bytes& parts : {Bytes(), twice, part(0, state), part(7, state), part(0xFFFF, state),
                               part(3, state), Bytes{0, 1, 0xFF, 0xFF, 0xFF, 0xFF}}) {
        CHECK(error_of(open_swtpm_blob(with_header(2, 1, 0, parts), nullptr)) == Errc::corrupt);
    }
    const Bytes vast(max_swtpm_state + 1);
    CHECK(error_of(open_swtpm_blob(with_header(2, 1, 0, part(1, vast)), nullptr)) ==
          Errc::too_large);
    CHECK(error_of(open_swtpm_blob(Bytes(max_swtpm_blob + 1), nullptr)) == Errc::too_large);
}

TEST_CASE("what a key's description may say") {
    TemporaryDirectory directory;
    const auto file = [&](const std::string& name, const std::string& content) {
        spit(directory.path() / name, as_bytes(content));
        return (directory.path() / name).string();
    };
    const auto key = [](const std::string& option) {
        return error_of(SwtpmKey::from_key_file(option));
    };
    const auto hex = file("hex", hex_128);
    CHECK_FALSE(key(hex));
    CHECK_FALSE(key(hex + ",format=hex,mode=aes-128-cbc"));
    CHECK_FALSE(key(file("b", std::string(16, 'x')) + ",format=binary"));
    for (const std::string wrong :
         {",mode=aes-256-cbc", ",mode=des", ",format=base64", ",kdf=sha512", ",remove=true", ",",
          ",mode", ",format=hex,,mode=aes-cbc"}) {
        INFO(wrong);
        CHECK(key(hex + wrong) == Errc::invalid_argument);
    }
    for (const std::string& content :
         {hex_128 + "0", hex_128 + "zz", hex_128.substr(2), "x" + hex_128, hex_128 + " " + hex_128,
          std::string("0x"), std::string(), hex_128 + std::string(2, '\0')}) {
        INFO(content);
        CHECK(key(file("wrong", content)) == Errc::invalid_argument);
    }
    CHECK(key(file("vast", std::string(100'000, 'a'))) == Errc::too_large);
    CHECK(key("") == Errc::invalid_argument);
    CHECK(key((directory.path() / "absent").string()) == Errc::io);
    CHECK(error_of(SwtpmKey::from_passphrase_file(hex + ",kdf=md5")) == Errc::invalid_argument);
    CHECK(error_of(SwtpmKey::from_passphrase_file(hex + ",format=hex")) == Errc::invalid_argument);
}
