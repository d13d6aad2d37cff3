// KeyBundle: the keys of an open vault on their way from one vtpmmgrd to the next, in memory that
// never touches a disk. Private to the vault room; plain values.
#pragma once

#include <map>

#include "hash.h"
#include "vtpm/base/uuid.h"

namespace vtpm::vault {

struct KeyBundle {
    Uuid manager;
    SecretBytes root;
    // Of the open groups. In the middle of a renewal there are two of a group, and one of the
    // manager's uuid is another root key: which ones are in force, the vault shows.
    std::multimap<Uuid, SecretBytes> keys;

    SecretBytes text() const;
    // Errc::malformed if it is anything else.
    static Result<KeyBundle> parse(ByteView text);
};

}  // namespace vtpm::vault
