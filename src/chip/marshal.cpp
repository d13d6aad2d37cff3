#include "marshal.h"

#include <tss2/tss2_mu.h>

namespace vtpm::chip {
namespace {

template <typename T, typename Function>
Result<Bytes> marshal_with(Function function, const T& value) {
    Bytes bytes(sizeof(T) + sizeof(std::uint16_t));
    std::size_t offset = 0;
    if (function(&value, bytes.data(), bytes.size(), &offset) != TSS2_RC_SUCCESS) {
        return fail(Errc::malformed, "a TPM structure cannot be written down");
    }
    bytes.resize(offset);
    return bytes;
}

template <typename T, typename Function>
Result<T> unmarshal_with(Function function, ByteView bytes) {
    T value{};
    std::size_t offset = 0;
    if (bytes.empty() || function(bytes.data(), bytes.size(), &offset, &value) != TSS2_RC_SUCCESS ||
        offset != bytes.size()) {
        return fail(Errc::corrupt, "not a TPM structure of the expected kind");
    }
    return value;
}

}  // namespace

Result<Bytes> marshal(const TPM2B_PUBLIC& value) {
    return marshal_with(Tss2_MU_TPM2B_PUBLIC_Marshal, value);
}

Result<Bytes> marshal(const TPM2B_PRIVATE& value) {
    return marshal_with(Tss2_MU_TPM2B_PRIVATE_Marshal, value);
}

bool same(const TPM2B_PUBLIC& a, const TPM2B_PUBLIC& b) {
    const auto left = marshal(a);
    const auto right = marshal(b);
    return left && right && *left == *right;
}

Result<TPM2B_PUBLIC> unmarshal_public(ByteView bytes) {
    return unmarshal_with<TPM2B_PUBLIC>(Tss2_MU_TPM2B_PUBLIC_Unmarshal, bytes);
}

Result<TPM2B_PRIVATE> unmarshal_private(ByteView bytes) {
    return unmarshal_with<TPM2B_PRIVATE>(Tss2_MU_TPM2B_PRIVATE_Unmarshal, bytes);
}

}  // namespace vtpm::chip
