#include "control_message.h"

#include <algorithm>

namespace vtpm::swtpm {
namespace {

constexpr std::size_t command_size = 4;

struct BodySize {
    std::size_t least;
    std::size_t most;
};

// Of a body whose last field says how much follows: that much is more.
std::optional<std::size_t> announced(Command command, ByteView body) {
    ByteReader reader(body);
    if (command == Command::set_stateblob && !reader.bytes(8))
        return std::nullopt;
    const auto size = reader.u32();
    return size ? std::optional<std::size_t>(*size) : std::nullopt;
}

std::optional<BodySize> body_size(Command command, ByteView body) {
    switch (command) {
        case Command::init:
        case Command::set_buffersize:
        case Command::lock_storage:
            return BodySize{4, 4};
        case Command::set_locality:
        case Command::reset_established:
            return BodySize{1, 4};  // a byte, and in most peers three for nothing
        case Command::get_stateblob:
            return BodySize{12, 12};
        case Command::get_info:
            return BodySize{16, 16};
        case Command::hash_data: {
            const auto size = announced(command, body).value_or(0);
            if (size > max_hash_data)
                return std::nullopt;
            return BodySize{4 + size, 4 + size};
        }
        case Command::set_stateblob: {
            const auto size = announced(command, body).value_or(0);
            if (size > max_stateblob)
                return std::nullopt;
            return BodySize{12 + size, 12 + size};
        }
        default:
            return BodySize{0, 0};
    }
}

}  // namespace

Framing frame(ByteView received, Request& request) {
    ByteReader reader(received);
    const auto number = reader.u32();
    if (!number)
        return Framing::incomplete;
    request = {static_cast<Command>(*number), reader.rest()};
    const auto size = body_size(request.command, request.body);
    if (!size || request.body.size() > size->most)
        return Framing::malformed;
    return request.body.size() < size->least ? Framing::incomplete : Framing::complete;
}

bool says_its_size(Command command) {
    return command == Command::hash_data || command == Command::set_stateblob;
}

Bytes answer(std::uint32_t result) {
    return ByteWriter().u32(result).take();
}

std::size_t answer_size(Command command) {
    switch (command) {
        case Command::get_capability:
        case Command::get_established:
        case Command::get_config:
            return 8;
        case Command::get_stateblob:
        case Command::set_buffersize:
            return 16;
        case Command::get_info:
            return 12;
        default:
            return command_size;
    }
}

Bytes refusal(std::uint32_t command, std::uint32_t result) {
    Bytes bytes = answer(result);
    bytes.resize(answer_size(static_cast<Command>(command)));
    return bytes;
}

}  // namespace vtpm::swtpm
