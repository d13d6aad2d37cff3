#include "control_server.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "state_directory.h"
#include "vtpm/base/log.h"

namespace vtpm::swtpm {
namespace {

constexpr std::uint32_t blob_is_encrypted = 2;
constexpr std::size_t ticket_limit = 64;

std::uint32_t u32_of(ByteView body) {
    return ByteReader(body).u32().value_or(0);
}

std::uint8_t u8_of(ByteView body) {
    return ByteReader(body).u8().value_or(0);
}

}  // namespace

Bytes ControlServer::refuse(const Request& request) {
    return refusal(static_cast<std::uint32_t>(request.command), result::bad_parameter);
}

Bytes ControlServer::handle(const Request& request, Fd descriptor) {
    const auto body = request.body;
    switch (request.command) {
        case Command::get_capability:
            return ByteWriter().u32(result::success).u32(capabilities).take();
        case Command::init:
            return answer(power_on(false));
        case Command::shutdown:
            return shutdown();
        case Command::get_established:
            return established();
        case Command::set_locality:
            return set_locality(u8_of(body));
        case Command::hash_start:
        case Command::hash_data:
        case Command::hash_end:
            return hash(request.command, body);
        case Command::cancel:
            return answer(tpm_.cancel());
        case Command::store_volatile:
            return store_volatile();
        case Command::reset_established:
            return answer(tpm_.reset_established(u8_of(body)));
        case Command::get_stateblob:
            return get_stateblob(ByteReader(body));
        case Command::set_stateblob:
            return set_stateblob(ByteReader(body));
        case Command::stop:
            return stop();
        case Command::get_config:
            return config();
        case Command::set_datafd:
            return answer(tpm_.set_data(std::move(descriptor)));
        case Command::set_buffersize:
            return set_buffersize(u32_of(body));
        case Command::get_info:
            return info(ByteReader(body));
        case Command::lock_storage:
            return answer(tpm_.unpark(
                std::chrono::milliseconds(10 * std::min<std::int64_t>(u32_of(body), 1000))));
    }
    return refusal(static_cast<std::uint32_t>(request.command), result::bad_ordinal);
}

// A ticket that STORE_VOLATILE has left counts as one that was set. It is of use once: swtpm keeps
// the file unless it is told otherwise, and would begin there again.
std::uint32_t ControlServer::begin(bool gives_startup) {
    if (tpm_.keeps_volatile()) {  // as swtpm does, but with the TPM as it is now, not as it was
                                  // then
        const auto begun = tpm_.begin_where_it_is();
        if (begun == result::success)
            forget_volatile();
        return begun;
    }
    if (tpm_.is_on())
        forget_volatile();
    const auto kept = read_file(settings_.volatile_file.c_str(), ticket_limit);
    if (kept) {
        const auto ticket = StateTicket::parse(*kept);
        if (!ticket || tpm_.take_ticket(*ticket) != result::success) {
            spdlog::error("{} is no state of this TPM's, and is removed", settings_.volatile_file);
            forget_volatile();
            return result::fail;
        }
    }
    const auto result = tpm_.init(gives_startup);
    if (kept && tpm_.label_was_refused())
        spdlog::error("{}: no such state is put by any more; the file is removed",
                      settings_.volatile_file);
    if (result == result::success || tpm_.label_was_refused())
        forget_volatile();
    return result;
}

std::uint32_t ControlServer::power_on(bool gives_startup) {
    const auto result = begin(gives_startup);
    if (result == result::success && !settings_.instance_file.empty()) {
        if (const auto named = name_again(settings_.instance_file, tpm_.uuid()); !named)
            spdlog::error("the state directory: {}", named.error().context);
    }
    return result;
}

// With the power goes what was to outlive it.
Bytes ControlServer::stop() {
    if (tpm_.is_on())
        forget_volatile();
    return answer(tpm_.stop());
}

void ControlServer::forget_volatile() {
    (void)::unlink(settings_.volatile_file.c_str());
}

Bytes ControlServer::shutdown() {
    shut_down_ = true;
    return answer(tpm_.finish() ? result::success : result::fail);
}

Bytes ControlServer::established() {
    bool value = false;
    const auto result = tpm_.established(value);
    return ByteWriter().u32(result).u8(value ? 1 : 0).u8(0).u16(0).take();
}

Bytes ControlServer::config() const {
    const std::uint32_t keys =
        (settings_.has_key ? 1U : 0U) | (settings_.has_migration_key ? 2U : 0U);
    return ByteWriter().u32(result::success).u32(keys).take();
}

Bytes ControlServer::set_locality(std::uint8_t locality) {
    if (locality == 4 && settings_.refuses_locality_4)
        return answer(result::bad_locality);
    return answer(tpm_.set_locality(locality));
}

Bytes ControlServer::hash(Command command, ByteView body) {
    using Sequence = wire::proto::HashSequence;
    if (command == Command::hash_data)
        return answer(tpm_.hash(Sequence::DATA, body.subspan(sizeof(std::uint32_t))));
    return answer(tpm_.hash(command == Command::hash_start ? Sequence::START : Sequence::END, {}));
}

Bytes ControlServer::store_volatile() {
    const auto ticket = tpm_.keep_volatile();
    if (ticket.label == 0)
        return answer(result::fail);
    const Fd file(::open(settings_.volatile_file.c_str(),
                         O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file.valid() || !write_all(file.get(), ticket.to_bytes()))
        return answer(result::io_error);
    return answer(result::success);
}

// A TPM that runs is put by at the first of them: what follows has to be of the same moment.
Bytes ControlServer::get_stateblob(ByteReader body) {
    const auto refused = [](std::uint32_t why) {
        return refusal(static_cast<std::uint32_t>(Command::get_stateblob), why);
    };
    const auto flags = body.u32();
    const auto type = body.u32();
    const auto offset = body.u32();
    if (!flags || !type || !offset || *type < 1 || *type > 3)
        return refused(result::bad_parameter);
    if (!tpm_.is_on() && !tpm_.is_parked())  // or a failed TPM would come back as a new one
        return refused(result::bad_ordinal);
    if (tpm_.is_on()) {
        forget_volatile();
        if (const auto parked = tpm_.park(); parked != result::success)
            return refused(parked);
    }
    if (static_cast<BlobType>(*type) == BlobType::saved)
        return refused(result::none);  // it is with the permanent state, in the vault
    const Bytes blob = tpm_.ticket(static_cast<BlobType>(*type)).to_bytes();
    if (*offset > blob.size())
        return refused(result::bad_parameter);
    const auto rest = ByteView(blob).subspan(*offset);
    return ByteWriter()
        .u32(result::success)
        .u32(blob_is_encrypted)
        .u32(static_cast<std::uint32_t>(blob.size()))
        .u32(static_cast<std::uint32_t>(rest.size()))
        .bytes(rest)
        .take();
}

Bytes ControlServer::set_stateblob(ByteReader body) {
    (void)body.u32();
    const auto type = body.u32();
    const auto size = body.u32();
    if (!type || !size)
        return answer(result::bad_parameter);
    if (tpm_.is_on())
        return answer(result::bad_ordinal);
    if (static_cast<BlobType>(*type) == BlobType::saved && body.left() == 0)
        return answer(result::success);
    const auto ticket = StateTicket::parse(body.rest());
    if (!ticket) {
        spdlog::error("a state blob is refused: {}", ticket.error().context);
        return answer(result::bad_parameter);
    }
    if (static_cast<std::uint32_t>(ticket->type) != *type)
        return answer(result::bad_parameter);
    return answer(tpm_.take_ticket(*ticket));
}

Bytes ControlServer::set_buffersize(std::uint32_t wanted) {
    const auto result = wanted == 0 ? result::success : tpm_.set_buffer_size(wanted);
    const auto size = tpm_.buffer_size();
    return ByteWriter().u32(result).u32(size.current).u32(size.least).u32(size.most).take();
}

Bytes ControlServer::info(ByteReader body) {
    const auto flags = body.u64();
    const auto offset = body.u32();
    std::string json;
    const auto result = tpm_.info(static_cast<std::uint32_t>(flags.value_or(0)), json);
    if (result != result::success || offset.value_or(0) > json.size())
        return refusal(static_cast<std::uint32_t>(Command::get_info),
                       result != result::success ? result : result::bad_parameter);
    // Peers take it for a C string.
    json.push_back('\0');
    const auto rest = as_bytes(json).subspan(*offset);
    return ByteWriter()
        .u32(result)
        .u32(static_cast<std::uint32_t>(json.size()))
        .u32(static_cast<std::uint32_t>(rest.size()))
        .bytes(rest)
        .take();
}

}  // namespace vtpm::swtpm
