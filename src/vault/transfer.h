// The ticket, the package and the receipt as bytes; see include/vtpm/vault/transfer.h.
//
//   ticket   head | manager | group | point (65) | nonce (32) | made (u64) | SHA-256 of that
//   package  header | ephemeral point | wrapped K_pkg | a record (record_cipher.h) per blob
//   receipt  head | target | instance | hash of the header (32) | MAC (32)
//
//   K_pkg  32 bytes, random, once per export; wrapped for the group's import key (p256.h)
//    +- HKDF(salt = hash of the header) "xen-vtpm K_package 1"  the records; their labels hold that
//    |                                                          hash in the place of an anchor
//    +- HKDF "xen-vtpm K_receipt 1"                             MAC of the receipt
//
// Private to the vault room; plain values.
#pragma once

#include <vector>

#include "hash.h"
#include "p256.h"
#include "vtpm/vault/transfer.h"
#include "vtpm/vault/vault.h"

namespace vtpm::vault {

struct Ticket {
    Uuid manager;
    Uuid group;
    Bytes point;  // of the group's import key
    Hash nonce{};
    std::int64_t made = 0;

    bool expired(std::int64_t now) const { return now >= made && now - made >= ticket_seconds; }
    Bytes bytes() const;
    // Errc::malformed, unsupported.
    static Result<Ticket> parse(ByteView bytes);
};

// The key that a group's packages are for. It is there while the group's key is.
Result<P256Key> import_key(const SecretBytes& group_key);

struct PackageHeader {
    PackageFacts facts;
    Hash nonce{};  // of the ticket
    Bytes point;   // of the ticket
    bool sync = false;
    std::int64_t created = 0;   // unix seconds: the instance
    std::int64_t exported = 0;  // the package
    std::vector<std::pair<BlobKind, std::size_t>> blobs = {};

    Bytes bytes() const;
};

struct ParsedPackage {
    PackageHeader header;
    Hash hash{};  // of the header's bytes
    ByteView ephemeral;
    ByteView wrapped;
    std::vector<ByteView> records;  // as many as header.blobs
};
// Views of `package`.
Result<ParsedPackage> parse_package(ByteView package);

Result<Bytes> seal_package(const PackageHeader& header, const SecretBytes& package_key,
                           const LoadedState& state);
// Errc::corrupt if it is not the package that was made for this key.
Result<SecretBytes> open_package_key(const ParsedPackage& package, const P256Key& own);
Result<std::vector<BlobChange>> open_package_state(const ParsedPackage& package,
                                                   const SecretBytes& package_key);

Bytes make_receipt(const PackageFacts& facts, const Hash& header, const SecretBytes& package_key);

// What a row says of an instance that has come from another manager, or has gone to one.
struct Move {
    Uuid peer;
    std::int64_t at = 0;  // unix seconds
    Hash header{};        // of the package
    Hash ticket{};        // SHA-256 of it; exported instances only
    Bytes wrapped_key;    // K_pkg under K_inst; exported instances only

    Bytes bytes() const;
    static Result<Move> parse(ByteView bytes);
};

}  // namespace vtpm::vault
