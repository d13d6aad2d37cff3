#include "tpm12_cell.h"

#include <openssl/sha.h>

#include <algorithm>

namespace vtpm::chip::tpm12 {
namespace {

constexpr std::uint16_t tag_data_public = 0x18;
constexpr std::uint16_t tag_attributes = 0x17;
constexpr std::uint32_t auth_read_write = 0x00040004;  // TPM_NV_PER_AUTHREAD, _AUTHWRITE
constexpr std::uint32_t value_offset = std::tuple_size_v<CellTag>;
constexpr std::uint32_t value_size = std::tuple_size_v<CellValue>;
constexpr std::uint32_t cell_size = value_offset + value_size;

// A chip tells nobody whose area it is without the area's authorization, so the index does: it
// begins like the tag, and there are so many of one beginning.
constexpr CellIndex first_index = 0x00560000;
constexpr CellIndex places = 8;

CellIndex first_of(const CellTag& tag) {
    const auto begin = static_cast<CellIndex>(tag[0] << 8U | tag[1]);
    return first_index | (begin & ~(places - 1));
}

tl::unexpected<Error> wrong_cell(const std::string& why) {
    return fail(Errc::wrong_cell, NextAction::ask_operator, "the chip's commit cell " + why);
}

// TPM_NV_DATA_PUBLIC, Part 2 clause 19.3
Bytes public_data(CellIndex index, std::uint32_t size) {
    const Bytes any_pcrs =
        ByteWriter().u16(3).bytes(Bytes(3)).u8(any_locality).bytes(Sha1{}).take();
    return ByteWriter()
        .u16(tag_data_public)
        .u32(index)
        .bytes(any_pcrs)
        .bytes(any_pcrs)
        .u16(tag_attributes)
        .u32(auth_read_write)
        .u8(0)
        .u8(0)
        .u8(0)
        .u32(size)
        .take();
}

// Whether the area is of the kind that we make.
Result<bool> is_a_cell(Tpm12Connection& connection, CellIndex index) {
    const auto answer = connection.capability(cap_nv_index, u32_bytes(index));
    if (!answer && connection.code() == Code::bad_index)
        return false;
    if (!answer)
        return tl::make_unexpected(answer.error());
    ByteReader reader(answer->view());
    VTPM_TRY(const auto tag, reader.u16());
    VTPM_TRY(const auto here, reader.u32());
    for (int i = 0; i < 2; ++i) {
        VTPM_TRY(const auto size, reader.u16());
        VTPM_CHECK(reader.bytes(size + 1U + sha1_size));
    }
    VTPM_CHECK(reader.u16());
    VTPM_TRY(const auto attributes, reader.u32());
    VTPM_CHECK(reader.bytes(3));
    VTPM_TRY(const auto size, reader.u32());
    return tag == tag_data_public && here == index && attributes == auth_read_write &&
           size == cell_size && reader.left() == 0;
}

Result<std::vector<CellIndex>> all_indices(Tpm12Connection& connection) {
    VTPM_TRY(const SecretBytes list, connection.capability(cap_nv_list, {}));
    ByteReader reader(list.view());
    std::vector<CellIndex> indices;
    while (reader.left() > 0) {
        VTPM_TRY(const auto index, reader.u32());
        indices.push_back(index);
    }
    return indices;
}

// Size 0 removes.
Result<void> define(Tpm12Connection& connection, const SecretBytes& owner_auth, CellIndex index,
                    std::uint32_t size, const Sha1& auth) {
    VTPM_TRY(Session session, connection.osap(et_owner, owner_handle, owner_auth.view()));
    const Bytes area = public_data(index, size);
    const Sha1 hidden = session.hidden(auth);
    const auto done =
        connection.run(Ordinal::nv_define_space, {.parts = {area, hidden}}, {&session});
    if (!done && connection.code() == Code::auth_fail)
        return fail(Errc::permission, NextAction::ask_operator,
                    "the chip has an owner whose authorization value is another one; see "
                    "tpm12_owner_file in vtpmmgrd(8)");
    if (!done)
        return tl::make_unexpected(done.error());
    return {};
}

Sha1 area_auth(const SecretBytes& auth) {
    return sha1({auth.view()});
}

Result<SecretBytes> about_the_cell(Tpm12Connection& connection, Result<SecretBytes> answer) {
    if (!answer && connection.code() == Code::bad_index)
        return wrong_cell("is not there");
    if (!answer && connection.code() == Code::auth_fail)
        return wrong_cell("has another authorization value");
    return answer;
}

Result<SecretBytes> read(Tpm12Connection& connection, CellIndex index, const SecretBytes& auth) {
    Sha1 key = area_auth(auth);
    auto session = connection.oiap(key);
    wipe(key);
    if (!session)
        return tl::make_unexpected(std::move(session).error());
    const Bytes what = ByteWriter().u32(index).u32(0).u32(cell_size).take();
    VTPM_TRY(const SecretBytes answer,
             about_the_cell(connection, connection.run(Ordinal::nv_read_value_auth,
                                                       {.parts = {what}}, {&*session})));
    ByteReader reader(answer.view());
    VTPM_TRY(const auto size, reader.u32());
    if (size != cell_size || reader.left() != cell_size)
        return wrong_cell("has another size");
    return SecretBytes::copy_of(reader.rest());
}

Result<void> write(Tpm12Connection& connection, CellIndex index, const SecretBytes& auth,
                   std::uint32_t offset, ByteView content) {
    Sha1 key = area_auth(auth);
    auto session = connection.oiap(key);
    wipe(key);
    if (!session)
        return tl::make_unexpected(std::move(session).error());
    const Bytes what = ByteWriter().u32(index).u32(offset).sized(content).take();
    VTPM_CHECK(about_the_cell(
        connection, connection.run(Ordinal::nv_write_value_auth, {.parts = {what}}, {&*session})));
    return {};
}

CellValue value_after(const CellValue& old, const CellValue& digest) {
    Bytes text(old.begin(), old.end());
    text.insert(text.end(), digest.begin(), digest.end());
    CellValue value{};
    ::SHA256(text.data(), text.size(), value.data());
    return value;
}

}  // namespace

Result<CellIndex> define_cell(Tpm12Connection& connection, const SecretBytes& owner_auth,
                              const SecretBytes& auth, const CellTag& tag) {
    if (auth.size() != Chip::cell_auth_size)
        return fail(Errc::invalid_argument, "the authorization value of a cell has 32 bytes");
    VTPM_TRY(const auto taken, all_indices(connection));
    for (CellIndex index = first_of(tag); index < first_of(tag) + places; ++index) {
        if (std::find(taken.begin(), taken.end(), index) != taken.end())
            continue;
        Sha1 key = area_auth(auth);
        const auto made = define(connection, owner_auth, index, cell_size, key);
        wipe(key);
        if (!made)
            return tl::make_unexpected(made.error());
        const Bytes content = ByteWriter().bytes(tag).bytes(CellValue{}).take();
        if (auto written = write(connection, index, auth, 0, content); !written) {
            (void)define(connection, owner_auth, index, 0, well_known);
            return tl::make_unexpected(std::move(written).error());
        }
        return index;
    }
    return fail(Errc::too_large, "the chip has too many commit cells of this manager");
}

Result<std::optional<CellValue>> read_cell(Tpm12Connection& connection, const Cell& cell,
                                           const SecretBytes& auth) {
    VTPM_TRY(const SecretBytes content, read(connection, cell.index, auth));
    if (!equal_constant_time(content.view().first(value_offset), cell.tag))
        return wrong_cell("is that of another manager");
    CellValue value{};
    std::copy_n(content.view().begin() + value_offset, value_size, value.begin());
    if (value == CellValue{})
        return std::nullopt;
    return value;
}

Result<CellValue> extend_cell(Tpm12Connection& connection, const Cell& cell,
                              const SecretBytes& auth, const CellValue& digest) {
    VTPM_TRY(const auto before, read_cell(connection, cell, auth));
    const CellValue value = value_after(before.value_or(CellValue{}), digest);
    VTPM_CHECK(write(connection, cell.index, auth, value_offset, value));
    VTPM_TRY(const auto after, read_cell(connection, cell, auth));
    return after.value_or(CellValue{});
}

Result<std::vector<CellIndex>> cells(Tpm12Connection& connection) {
    VTPM_TRY(const auto indices, all_indices(connection));
    std::vector<CellIndex> found;
    for (const CellIndex index : indices) {
        VTPM_TRY(const bool ours, is_a_cell(connection, index));
        if (ours)
            found.push_back(index);
    }
    return found;
}

Result<void> remove_cell(Tpm12Connection& connection, const OwnerAuth& owner, CellIndex index) {
    VTPM_TRY(const bool ours, is_a_cell(connection, index));
    if (!ours)
        return wrong_cell("is not there");
    VTPM_TRY(const SecretBytes owner_auth, owner());
    return define(connection, owner_auth, index, 0, well_known);
}

Result<void> remove_other_cells(Tpm12Connection& connection, const OwnerAuth& owner,
                                const Cell& keep) {
    VTPM_TRY(const auto indices, all_indices(connection));
    const CellIndex first = first_of(keep.tag);
    for (const CellIndex index : indices) {
        if (index < first || index >= first + places || index == keep.index)
            continue;
        VTPM_TRY(const bool ours, is_a_cell(connection, index));
        if (!ours)
            continue;
        VTPM_TRY(const SecretBytes owner_auth, owner());
        VTPM_CHECK(define(connection, owner_auth, index, 0, well_known));
    }
    return {};
}

}  // namespace vtpm::chip::tpm12
