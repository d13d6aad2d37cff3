#include "boot_statement.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace vtpm::control {
namespace {

constexpr std::string_view what_it_is = "xen-vtpm boot statement 1";
constexpr std::size_t max_group_name = 64;

std::optional<PcrDigest> digest_of(ByteView bytes) {
    PcrDigest digest{};
    if (bytes.size() != digest.size())
        return std::nullopt;
    std::copy(bytes.begin(), bytes.end(), digest.begin());
    return digest;
}

std::optional<PcrDigest> digest_of_hex(std::string_view hex) {
    const auto bytes = from_hex(hex);
    return bytes ? digest_of(*bytes) : std::nullopt;
}

std::optional<std::uint8_t> pcr_number(std::string_view text) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number > max_pcr)
        return std::nullopt;
    return static_cast<std::uint8_t>(number);
}

tl::unexpected<Error> malformed_statement(const std::string& what) {
    return fail(Errc::malformed, "not a boot statement of xen-vtpm: " + what);
}

// The text under this name; none if it is not there or not text.
const std::string* text_in(const nlohmann::json& object, const char* name) {
    const auto found = object.find(name);
    return found == object.end() ? nullptr : found->get_ptr<const std::string*>();
}

Result<Uuid> uuid_in(const nlohmann::json& object, const char* name, const char* whose) {
    const auto* text = text_in(object, name);
    const auto uuid = text == nullptr ? Result<Uuid>(malformed_statement("")) : Uuid::parse(*text);
    if (!uuid || uuid->is_nil())
        return malformed_statement(std::string("no uuid of the ") + whose);
    return *uuid;
}

Result<PcrValues> pcrs_in(const nlohmann::json& object) {
    const auto found = object.find("pcrs");
    if (found == object.end() || !found->is_object() || found->empty())
        return malformed_statement("no PCRs");
    PcrValues pcrs;
    for (const auto& [name, value] : found->items()) {
        const auto number = pcr_number(name);
        const auto* hex = value.get_ptr<const std::string*>();
        const auto digest = hex == nullptr ? std::nullopt : digest_of_hex(*hex);
        if (!number || !digest || !pcrs.emplace(*number, *digest).second)
            return malformed_statement("a PCR is 0 to 23, once, and its value 64 hex digits");
    }
    return pcrs;
}

bool fit_to_print(const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

Result<BootStatement> statement_of(const wire::proto::BootStatement& message) {
    BootStatement statement;
    VTPM_TRY(statement.manager, Uuid::from_bytes(as_bytes(message.manager())));
    VTPM_TRY(statement.group, Uuid::from_bytes(as_bytes(message.group().uuid())));
    statement.group_name = message.group().name();
    for (const auto& pcr : message.pcr()) {
        const auto digest = digest_of(as_bytes(pcr.value()));
        if (!digest || pcr.number() > max_pcr)
            return fail(Errc::malformed, "vtpmmgrd sent a PCR that is none");
        statement.pcrs[static_cast<std::uint8_t>(pcr.number())] = *digest;
    }
    statement.counter = message.counter();
    statement.limit = message.limit();
    statement.words.assign(message.words().begin(), message.words().end());
    if (statement.pcrs.empty() || statement.words.size() != BootStatement::words_size)
        return fail(Errc::malformed, "vtpmmgrd sent a boot statement that is none");
    return statement;
}

nlohmann::json to_json(const BootStatement& statement) {
    auto pcrs = nlohmann::json::object();
    for (const auto& [number, value] : statement.pcrs)
        pcrs[std::to_string(number)] = to_hex(value);
    nlohmann::json json = {
        {"what", what_it_is},
        {"manager", statement.manager.to_string()},
        {"group", {{"uuid", statement.group.to_string()}, {"name", statement.group_name}}},
        {"pcrs", pcrs},
        {"counter", to_hex(ByteWriter().u32(statement.counter).written())},
        {"limit", statement.limit},
        {"words", to_hex(statement.words)}};
    if (!statement.signature.empty())
        json["signature"] = to_hex(statement.signature);
    return json;
}

Result<BootStatement> parse_statement(ByteView file) {
    if (file.size() > BootStatement::max_file)
        return fail(Errc::too_large, "too large for a boot statement");
    const auto json = nlohmann::json::parse(file.begin(), file.end(), nullptr, false);
    if (json.is_discarded() || !json.is_object())
        return malformed_statement("no JSON object");
    const auto* what = text_in(json, "what");
    if (what == nullptr || *what != what_it_is)
        return malformed_statement("it does not say \"" + std::string(what_it_is) + "\"");
    BootStatement statement;
    VTPM_TRY(statement.manager, uuid_in(json, "manager", "manager"));
    const auto group = json.find("group");
    if (group == json.end() || !group->is_object())
        return malformed_statement("no group");
    VTPM_TRY(statement.group, uuid_in(*group, "uuid", "group"));
    if (const auto* name = text_in(*group, "name"); name != nullptr)
        statement.group_name = *name;
    if (statement.group_name.size() > max_group_name || !fit_to_print(statement.group_name))
        return malformed_statement("the group's name is none");
    VTPM_TRY(statement.pcrs, pcrs_in(json));
    const auto* const index = text_in(json, "counter");
    const auto counter =
        index == nullptr ? Result<Bytes>(malformed_statement("")) : from_hex(*index);
    if (!counter || counter->size() != sizeof statement.counter)
        return malformed_statement("no NV index of the counter");
    VTPM_TRY(statement.counter, ByteReader(*counter).u32());
    const auto limit = json.find("limit");
    if (limit == json.end() || !limit->is_number_unsigned())
        return malformed_statement("no limit");
    statement.limit = limit->get<std::uint64_t>();
    const auto* const words = text_in(json, "words");
    const auto bytes = words == nullptr ? Result<Bytes>(malformed_statement("")) : from_hex(*words);
    if (!bytes || bytes->size() != BootStatement::words_size)
        return malformed_statement("no words of 64 bytes");
    statement.words = *bytes;
    if (!json.contains("signature"))
        return statement;
    const auto* const hex = text_in(json, "signature");
    auto signature = hex == nullptr ? Result<Bytes>(malformed_statement("")) : from_hex(*hex);
    if (!signature || signature->empty() || signature->size() > BootStatement::max_signature)
        return malformed_statement("the signature is none");
    statement.signature = std::move(*signature);
    return statement;
}

Result<PcrValues> parse_pcr_values(const std::vector<std::string>& texts) {
    PcrValues pcrs;
    for (const auto& text : texts) {
        const auto equals = text.find('=');
        const auto number = pcr_number(std::string_view(text).substr(0, equals));
        const auto value = equals == std::string::npos
                               ? std::nullopt
                               : digest_of_hex(std::string_view(text).substr(equals + 1));
        if (!number || !value)
            return fail(Errc::invalid_argument,
                        text +
                            ": write it as N=HEX, with a PCR from 0 to 23 and the 64 hex "
                            "digits of its SHA-256 bank");
        if (!pcrs.emplace(*number, *value).second)
            return fail(Errc::invalid_argument,
                        "PCR " + std::to_string(*number) + " is there twice");
    }
    return pcrs;
}

Result<std::map<PcrDigest, PcrDigest>> parse_replacements(const std::vector<std::string>& texts) {
    std::map<PcrDigest, PcrDigest> replacements;
    for (const auto& text : texts) {
        const auto equals = text.find('=');
        const auto old = digest_of_hex(std::string_view(text).substr(0, equals));
        const auto fresh = equals == std::string::npos
                               ? std::nullopt
                               : digest_of_hex(std::string_view(text).substr(equals + 1));
        if (!old || !fresh || *old == *fresh)
            return fail(Errc::invalid_argument,
                        text + ": write it as OLD=NEW, two SHA-256 digests of 64 hex digits");
        if (!replacements.emplace(*old, *fresh).second)
            return fail(Errc::invalid_argument, to_hex(*old) + " is to be replaced twice");
    }
    return replacements;
}

}  // namespace vtpm::control
