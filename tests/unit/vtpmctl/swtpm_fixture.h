// States for the tests of import-swtpm, made by the swtpm of this machine.
#pragma once

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <map>

#include "fakes/chip/swtpm.h"
#include "swtpm_blob.h"
#include "swtpm_state.h"

namespace vtpm::control {

using fakes::Swtpm;
using fakes::TemporaryDirectory;

inline Bytes slurp(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void spit(const std::filesystem::path& path, ByteView bytes) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
}

inline const std::string hex_128 = "0123456789abcdef0123456789ABCDEF";
inline const std::string hex_256 = "0x" + hex_128 + hex_128 + "\n";

// How swtpm keeps a state, and how we are told the same.
struct Keeping {
    std::string name;
    std::string key;      // of swtpm's --key, FILE as K; empty: not encrypted
    std::string content;  // of that file
    std::string option;   // for us, without the file's name
    bool passphrase = false;
};

inline const std::vector<Keeping>& keepings() {
    static const std::vector<Keeping> all = {
        {"in clear", "", "", "", false},
        {"hex, 128 bits", "file=K,mode=aes-cbc", hex_128, "", false},
        {"hex, 256 bits", "file=K,mode=aes-256-cbc", hex_256, ",mode=aes-256-cbc", false},
        {"binary", "file=K,format=binary,mode=aes-256-cbc", std::string(32, '\x9c'),
         ",format=binary", false},
        {"passphrase", "pwdfile=K", "open sesame\n", "", true},
        {"passphrase, 256 bits", "pwdfile=K,mode=aes-256-cbc", "open sesame", ",kdf=pbkdf2", true},
        {"passphrase, hashed", "pwdfile=K,mode=aes-256-cbc,kdf=sha512", "open sesame",
         ",kdf=sha512,mode=aes-256-cbc", true},
    };
    return all;
}

inline const Keeping& keeping(const std::string& name) {
    for (const auto& one : keepings()) {
        if (one.name == name)
            return one;
    }
    throw std::logic_error(name);
}

inline std::string permall(tpm::Version version) {
    return version == tpm::Version::v2_0 ? "tpm2-00.permall" : "tpm-00.permall";
}

class Source {
  public:
    Source(tpm::Version version, const Keeping& how) : version_(version), how_(how) {
        spit(key_file(), as_bytes(how.content));
        std::vector<std::string> options;
        if (version == tpm::Version::v2_0)
            options.emplace_back("--tpm2");
        if (!how.key.empty()) {
            std::string key = how.key;
            key.replace(key.find('K'), 1, key_file().string());
            options.insert(options.end(), {"--key", key});
        }
        swtpm_.emplace(path(), "not-need-init,startup-clear", options);
        // It listens before its TPM has stored a state; its first answer comes after that.
        given_out_ = ask_for_state();
    }
    void stop() { swtpm_->kill(); }

    std::filesystem::path path() const { return temporary_.path() / "state"; }
    std::filesystem::path file() const { return path() / permall(version_); }
    std::filesystem::path key_file() const { return temporary_.path() / "key"; }

    std::optional<SwtpmKey> key() const {
        if (how_.key.empty())
            return std::nullopt;
        const auto option = key_file().string() + how_.option;
        auto made = how_.passphrase ? SwtpmKey::from_passphrase_file(option)
                                    : SwtpmKey::from_key_file(option);
        REQUIRE(made);
        return std::move(*made);
    }

    // What the running swtpm gives out: an envelope for migrations with its state in clear.
    const Bytes& given_out() const { return given_out_; }

    Result<SwtpmState> read() const {
        const auto with = key();
        return read_swtpm_state(path().string(), std::nullopt, with ? &*with : nullptr);
    }

  private:
    Bytes ask_for_state() {
        const auto out = temporary_.path() / "out";
        const std::string command = "swtpm_ioctl --unix " + swtpm_->socket().string() +
                                    ".ctrl --save permanent " + out.string();
        REQUIRE(std::system(command.c_str()) == 0);
        return slurp(out);
    }

    tpm::Version version_;
    const Keeping& how_;
    TemporaryDirectory temporary_;
    std::optional<Swtpm> swtpm_;
    Bytes given_out_;
};

// The file that swtpm has left and the key to it, made once for all tests.
struct Sample {
    Bytes blob;
    std::optional<SwtpmKey> key;
    const SwtpmKey* key_or_null() const { return key ? &*key : nullptr; }
};

inline const Sample& sample(const std::string& how) {
    static std::map<std::string, Sample> made;
    if (const auto old = made.find(how); old != made.end())
        return old->second;
    Source source(tpm::Version::v2_0, keeping(how));
    source.stop();
    return made.emplace(how, Sample{slurp(source.file()), source.key()}).first->second;
}

template <typename T>
std::optional<Errc> error_of(const Result<T>& result) {
    return result ? std::nullopt : std::optional(result.error().code);
}

template <typename T>
std::string reason_of(const Result<T>& result) {
    return result ? "" : result.error().context;
}

}  // namespace vtpm::control
