// The state of a swtpm, as `vtpmctl import-swtpm` reads it: a blob that is put together part by
// part, with some parts wrong, but with the HMAC right for what is there; in a file by itself or
// behind swtpm's table, or in a directory.
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/stat.h>

#include "fakes/chip/swtpm.h"
#include "input.h"
#include "swtpm_blob.h"
#include "swtpm_state.h"

using namespace vtpm;
using namespace vtpm::control;
using fuzz::Input;
using fuzz::must;

namespace {

void spit(const std::filesystem::path& path, ByteView bytes) {
    const Fd file(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600));
    must(write_all(file.get(), bytes).has_value(), "no file is written");
}

// Where all of this lies: in memory, and for good.
const std::filesystem::path& place() {
    static const fakes::TemporaryDirectory directory;
    static const std::filesystem::path path = [] {
        spit(directory.path() / "key16", Bytes(16, 0x11));
        spit(directory.path() / "key32", Bytes(32, 0x22));
        ::mkdir((directory.path() / "state").c_str(), 0700);
        return directory.path();
    }();
    return path;
}

const SwtpmKey& key_of(std::size_t size) {
    const auto make = [](const char* name) {
        return SwtpmKey::from_key_file((place() / name).string() + ",format=binary").value();
    };
    static const SwtpmKey small = make("key16");
    static const SwtpmKey large = make("key32");
    return size == 16 ? small : large;
}

struct Blob {
    Bytes state;  // that is in it
    Bytes bytes;
    std::size_t key = 0;  // 16, 32; 0: in clear
    bool sound = true;
};

void part(ByteWriter& writer, std::uint16_t tag, ByteView content, Blob& blob, Input& input) {
    const bool right = !input.rarely();
    blob.sound = blob.sound && right;
    writer.u16(right ? tag : static_cast<std::uint16_t>(input.pick(9)));
    writer.u32(right || input.flag() ? static_cast<std::uint32_t>(content.size()) : input.edgy());
    writer.bytes(content);
}

Bytes encrypted(ByteView padded, ByteView key, ByteView iv) {
    EVP_CIPHER_CTX* const context = EVP_CIPHER_CTX_new();
    Bytes out(padded.size() + 32);
    int size = 0;
    EVP_EncryptInit_ex(context, key.size() == 32 ? EVP_aes_256_cbc() : EVP_aes_128_cbc(), nullptr,
                       key.data(), iv.data());
    EVP_CIPHER_CTX_set_padding(context, 0);
    EVP_EncryptUpdate(context, out.data(), &size, padded.data(), static_cast<int>(padded.size()));
    EVP_CIPHER_CTX_free(context);
    out.resize(static_cast<std::size_t>(size));
    return out;
}

void seal(ByteWriter& parts, Blob& blob, Input& input) {
    const Bytes key(blob.key, blob.key == 16 ? 0x11 : 0x22);
    const bool right = !input.rarely();
    const auto fill = static_cast<std::uint8_t>(blob.key - blob.state.size() % blob.key);
    Bytes padded = blob.state;
    padded.resize(padded.size() + fill, right ? fill : input.u8());
    if (!right && input.flag())
        padded.resize(input.u16() % (padded.size() + 1));
    else if (!right)
        padded = Bytes(16 * (1 + input.pick(3)), input.u8());
    blob.sound = blob.sound && right;
    Bytes iv(right || input.flag() ? blob.key : input.pick(40), 0x99);
    Bytes long_iv = iv;
    long_iv.resize(std::max<std::size_t>(iv.size(), 32));
    const Bytes cipher = encrypted(padded, key, long_iv);
    Bytes covered = cipher;
    covered.insert(covered.end(), iv.begin(), iv.end());
    Bytes hmac(32);
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), covered.data(), covered.size(),
         hmac.data(), nullptr);
    part(parts, 2, cipher, blob, input);
    part(parts, 3, hmac, blob, input);
    part(parts, 6, iv, blob, input);
}

Blob make(Input& input) {
    Blob blob;
    // What libtpms' state of a TPM 2.0, or of a TPM 1.2, begins with.
    blob.state = input.flag() ? ByteWriter().u16(1).u32(0xAB364723).take()
                              : ByteWriter().u16(1).u32(0x00220001).take();
    const Bytes rest = input.bytes(200);
    blob.state.insert(blob.state.end(), rest.begin(), rest.end());
    blob.key = std::array<std::size_t, 3>{0, 16, 32}[input.pick(3)];
    ByteWriter parts;
    if (blob.key == 0) {
        part(parts, 1, blob.state, blob, input);
    } else {
        seal(parts, blob, input);
    }
    const bool right = !input.rarely();
    blob.sound = blob.sound && right;
    const std::uint16_t flags = blob.key == 0 ? 0 : blob.key == 16 ? 1 : 9;
    blob.bytes =
        ByteWriter()
            .u8(right ? 2 : input.u8())
            .u8(right ? 1 : input.u8())
            .u16(right ? 10 : input.u16())
            .u16(right ? flags : input.u16())
            .u32(right ? static_cast<std::uint32_t>(10 + parts.written().size()) : input.edgy())
            .bytes(parts.written())
            .take();
    return blob;
}

std::uint8_t low(std::uint64_t value, unsigned byte) {
    return static_cast<std::uint8_t>(value >> (8 * byte));
}

// swtpm's table, and the blob behind it.
Bytes linear(const Blob& blob, Input& input, bool& sound) {
    Bytes table(192);
    std::copy_n("nilmptws", 8, table.begin());
    table[8] = 1;
    table[10] = 192;
    const bool right = !input.rarely();
    sound = sound && right;
    const std::array<std::uint64_t, 3> entry = {right ? 192 : input.edgy(),
                                                right ? blob.bytes.size() : input.edgy(),
                                                right ? blob.bytes.size() : input.edgy()};
    for (std::size_t field = 0; field < 3; ++field) {
        for (unsigned byte = 0; byte < 4; ++byte)
            table[12 + field * 4 + byte] = low(entry[field], byte);
    }
    if (input.rarely()) {
        table[input.u8() % table.size()] = input.u8();
        sound = false;
    }
    table.insert(table.end(), blob.bytes.begin(), blob.bytes.end());
    return table;
}

void check(const Result<SwtpmState>& state, const Blob& blob, bool sound) {
    if (sound)
        must(state.has_value(), "a sound state is refused");
    if (state && blob.sound)
        must(equal_constant_time(state->permanent.view(), blob.state), "another state");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    const Blob blob = make(input);
    const SwtpmKey* const key = blob.key == 0 ? nullptr : &key_of(blob.key);
    const auto opened = open_swtpm_blob(blob.bytes, key);
    must(opened.has_value() || !blob.sound, "a sound blob is refused");
    if (opened && blob.sound)
        must(equal_constant_time(opened->view(), blob.state), "another state");
    const auto damaged = open_swtpm_blob(input.changed(blob.bytes), key);
    if (damaged && blob.key != 0 && blob.sound)
        must(equal_constant_time(damaged->view(), blob.state), "a state that nobody vouches for");
    if (!input.rarely())
        return 0;
    bool sound = blob.sound;
    if (input.flag()) {
        spit(place() / "linear", linear(blob, input, sound));
        check(read_swtpm_state((place() / "linear").string(), std::nullopt, key), blob, sound);
    } else {
        const auto directory = place() / "state";
        const bool v2 = version_of_permanent(blob.state) == tpm::Version::v2_0;
        spit(directory / (v2 ? "tpm2-00.permall" : "tpm-00.permall"), blob.bytes);
        check(
            read_swtpm_state(directory.string(), v2 ? tpm::Version::v2_0 : tpm::Version::v1_2, key),
            blob, sound);
    }
    return 0;
}
