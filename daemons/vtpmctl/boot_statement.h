// BootStatement: what an approver signs, on its way there and back.
//
// The file is JSON, and holds no secret:
//     what       "xen-vtpm boot statement 1"
//     manager    the host's uuid
//     group      {"uuid", "name"}
//     pcrs       {"0": 64 hex digits, ...}   for the signer to compare
//     counter    8 hex digits: the NV index of the chip's revocation counter
//     limit      what that counter must not be above
//     words      128 hex digits: what is signed, which stands for all of the above, as vtpmctl(8)
//                says
//     signature  hex digits, as `openssl dgst -sha256 -sign` gives it; only once it is signed
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "event_log.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/base/uuid.h"
#include "vtpm/wire/messages.pb.h"

namespace vtpm::control {

struct BootStatement {
    static constexpr std::size_t words_size = 64;
    static constexpr std::size_t max_signature = 1024;
    static constexpr std::size_t max_file = 64UL * 1024;

    Uuid manager;
    Uuid group;
    std::string group_name;
    PcrValues pcrs;
    std::uint32_t counter = 0;
    std::uint64_t limit = 0;
    Bytes words;
    Bytes signature;  // empty: not signed yet
};

// What vtpmmgrd says is to be signed.
Result<BootStatement> statement_of(const wire::proto::BootStatement& message);

nlohmann::json to_json(const BootStatement& statement);
// Errc::malformed, with what is wrong; too_large.
Result<BootStatement> parse_statement(ByteView file);

// "4=HEX" and "HEX=HEX", as a person types them. Errc::invalid_argument.
Result<PcrValues> parse_pcr_values(const std::vector<std::string>& texts);
Result<std::map<PcrDigest, PcrDigest>> parse_replacements(const std::vector<std::string>& texts);

// Signs with an approver's private key (PEM, not encrypted; P-256, or RSA of 2048 or 3072 bits), as
// `openssl dgst -sha256 -sign` does: DER for P-256, raw for RSA. Errc::invalid_argument.
Result<Bytes> sign(ByteView words, const SecretBytes& private_key);

}  // namespace vtpm::control
