#include "key_bundle.h"

#include <algorithm>

namespace vtpm::vault {
namespace {

constexpr std::string_view magic = "XVTPMKEY1";
constexpr std::size_t fixed_size = magic.size() + Uuid::size + key_size;
constexpr std::size_t entry_size = Uuid::size + key_size;

}  // namespace

SecretBytes KeyBundle::text() const {
    SecretBytes out(fixed_size + keys.size() * entry_size);
    auto at = std::copy(magic.begin(), magic.end(), out.span().begin());
    at = std::copy_n(manager.bytes().begin(), Uuid::size, at);
    at = std::copy_n(root.view().begin(), key_size, at);
    for (const auto& [uuid, key] : keys) {
        at = std::copy_n(uuid.bytes().begin(), Uuid::size, at);
        at = std::copy_n(key.view().begin(), key_size, at);
    }
    return out;
}

Result<KeyBundle> KeyBundle::parse(ByteView text) {
    if (text.size() < fixed_size || (text.size() - fixed_size) % entry_size != 0 ||
        !std::equal(magic.begin(), magic.end(), text.begin())) {
        return fail(Errc::malformed, "not the keys of a vault");
    }
    ByteReader reader(text.subspan(magic.size()));
    KeyBundle bundle;
    VTPM_TRY(const ByteView manager, reader.bytes(Uuid::size));
    VTPM_TRY(bundle.manager, Uuid::from_bytes(manager));
    VTPM_TRY(const ByteView root, reader.bytes(key_size));
    bundle.root = SecretBytes::copy_of(root);
    while (reader.left() > 0) {
        VTPM_TRY(const ByteView raw, reader.bytes(Uuid::size));
        VTPM_TRY(const Uuid uuid, Uuid::from_bytes(raw));
        VTPM_TRY(const ByteView key, reader.bytes(key_size));
        bundle.keys.emplace(uuid, SecretBytes::copy_of(key));
    }
    return bundle;
}

}  // namespace vtpm::vault
