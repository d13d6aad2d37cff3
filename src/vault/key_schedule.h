// The keys of an open vault. Private to the vault room.
//
//   K_root  32 bytes, sealed to the chip; only in memory while something is derived from it
//    +- HKDF "xen-vtpm K_meta 1"   MACs of the rows
//    +- HKDF "xen-vtpm K_sum 1"    hides what each row adds to the sum over the table
//    +- HKDF "xen-vtpm K_total 1"  MAC of that sum
//    +- HKDF "xen-vtpm K_cell 1"   AES-256-KW: the commit cell's authorization value, and
//        +- K_anchor  32 bytes, random: MACs of the anchors. Not derived, so that a new K_root
//            |        leaves the journal as it is; the cell's value is what makes one current
//            +- HKDF "xen-vtpm K_journal 1" MACs of the journal's lines
//   K_grp   32 bytes, sealed to the chip by itself, independent of K_root
//    +- HKDF "xen-vtpm K_import 1"  the P-256 key that packages for the group are for; transfer.h
//    +- AES-256-KW: K_inst, random per instance and generation; lies in the instance's row only
//        +- HKDF "xen-vtpm K_store 1"  tells a repeated store() from another one
//        +- HKDF(salt per record)      see record_cipher.h
#pragma once

#include "hash.h"

namespace vtpm::vault {

struct TableKeys {
    SecretBytes meta;
    SecretBytes sum;
    SecretBytes total;
    SecretBytes cell;
};

TableKeys derive_table_keys(const SecretBytes& root);
SecretBytes derive_journal_key(const SecretBytes& anchor_key);

// Shows whether the chip gave the right K_grp, without showing K_grp; and that K_root is the one
// that K_grp has been used with. Anybody who has the chip can seal a K_root of his own for the
// boots that are approved, and have a cell of his own vouch for rows that he has made; but not
// this.
Hash group_key_check(const SecretBytes& group_key, const SecretBytes& root);

}  // namespace vtpm::vault
