#include "key_schedule.h"

namespace vtpm::vault {

TableKeys derive_table_keys(const SecretBytes& root) {
    return {derive_key(root, "xen-vtpm K_meta 1"), derive_key(root, "xen-vtpm K_sum 1"),
            derive_key(root, "xen-vtpm K_total 1"), derive_key(root, "xen-vtpm K_cell 1")};
}

SecretBytes derive_journal_key(const SecretBytes& anchor_key) {
    return derive_key(anchor_key, "xen-vtpm K_journal 1");
}

Hash group_key_check(const SecretBytes& group_key, const SecretBytes& root) {
    constexpr std::string_view label = "xen-vtpm group key check 2";
    Bytes text(label.begin(), label.end());
    const Hash of_root = hmac_sha256(root.view(), as_bytes(label));
    text.insert(text.end(), of_root.begin(), of_root.end());
    return hmac_sha256(group_key.view(), text);
}

}  // namespace vtpm::vault
