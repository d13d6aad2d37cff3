#include "state_ticket.h"

namespace vtpm::swtpm {
namespace {

constexpr std::uint64_t magic = 0x5856544d54494b31;  // "XVTMTIK1"

}  // namespace

Bytes StateTicket::to_bytes() const {
    return ByteWriter()
        .u64(magic)
        .u32(static_cast<std::uint32_t>(type))
        .bytes(instance.bytes())
        .u64(label)
        .take();
}

Result<StateTicket> StateTicket::parse(ByteView bytes) {
    ByteReader reader(bytes);
    const auto seen = reader.u64();
    if (!seen || *seen != magic) {
        return fail(Errc::permission,
                    "a state blob that no vtpm-swtpm has given out: a TPM that has lived elsewhere "
                    "moves in with vtpmctl import-swtpm");
    }
    VTPM_TRY(const auto type, reader.u32());
    VTPM_TRY(const auto uuid, reader.bytes(Uuid::size));
    StateTicket ticket{};
    if (type < 1 || type > 3)
        return fail(Errc::malformed, "a state blob's ticket of no known type");
    ticket.type = static_cast<BlobType>(type);
    VTPM_TRY(ticket.instance, Uuid::from_bytes(uuid));
    VTPM_TRY(ticket.label, reader.u64());
    if (reader.left() != 0)
        return fail(Errc::malformed, "a state blob's ticket with bytes left over");
    return ticket;
}

}  // namespace vtpm::swtpm
