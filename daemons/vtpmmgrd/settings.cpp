#include "settings.h"

// Its assertions are about the text too ("[$" breaks one); without them that is an error like
// others.
#define TOML_ASSERT(condition) static_assert(true)
#include <toml++/toml.h>

#include <algorithm>

#include "vtpm/base/fd.h"

namespace vtpm::manager {
namespace {

constexpr std::size_t max_file_size = 64UL * 1024;

tl::unexpected<Error> bad_value(std::string_view key, std::string_view wanted) {
    return fail(Errc::invalid_argument,
                "'" + std::string(key) + "' must be " + std::string(wanted));
}

Result<void> take(std::string_view key, const toml::node& value, std::string& into) {
    const auto text = value.value_exact<std::string>();
    if (!text || text->empty())
        return bad_value(key, "a text in quotes");
    into = *text;
    return {};
}

Result<void> take(std::string_view key, const toml::node& value, bool& into) {
    const auto flag = value.value_exact<bool>();
    if (!flag)
        return bad_value(key, "true or false");
    into = *flag;
    return {};
}

Result<void> take(std::string_view key, const toml::node& value, tpm::Version& into) {
    std::string text;
    VTPM_CHECK(take(key, value, text));
    const auto version = tpm::parse_version(text);
    if (!version)
        return bad_value(key, "\"1.2\" or \"2.0\"");
    into = *version;
    return {};
}

Result<void> take_key(std::string_view key, const toml::node& value, Settings& settings) {
    if (key == "tcti")
        return take(key, value, settings.tcti);
    if (key == "tpm12_owner_file")
        return take(key, value, settings.tpm12_owner_file);
    if (key == "state_dir")
        return take(key, value, settings.state_dir);
    if (key == "socket")
        return take(key, value, settings.socket);
    if (key == "auto_create")
        return take(key, value, settings.auto_create);
    if (key == "boot_latch")
        return take(key, value, settings.boot_latch);
    if (key == "auto_create_tpm")
        return take(key, value, settings.auto_create_tpm);
    return fail(Errc::invalid_argument, "unknown key '" + std::string(key) + "'");
}

// Only comments: toml++ 3.3 runs into undefined behaviour at most letters from U+00A1 to U+0499
// that are where none may be.
bool is_ascii_but_for_comments(std::string_view text) {
    char quote = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (static_cast<unsigned char>(c) >= 0x80)
            return false;
        if (quote != 0 && c == quote)
            quote = 0;
        else if (quote == '"' && c == '\\')
            ++i;
        else if (quote == 0 && (c == '"' || c == '\''))
            quote = c;
        else if (quote == 0 && c == '#')
            i = std::min(text.find('\n', i), text.size());
    }
    return true;
}

}  // namespace

Result<Settings> parse_settings(std::string_view text) try {
    if (!is_ascii_but_for_comments(text))
        return fail(Errc::malformed, "only comments may have characters that are not ASCII");
    const toml::table table = toml::parse(text);
    Settings settings;
    for (const auto& [key, value] : table)
        VTPM_CHECK(take_key(key.str(), value, settings));
    return settings;
} catch (const toml::parse_error& error) {
    return fail(Errc::malformed, std::string(error.description()) + " in line " +
                                     std::to_string(error.source().begin.line));
}

Result<Settings> read_settings(const std::string& path) {
    auto text = read_file(path.c_str(), max_file_size);
    if (!text && text.error().code == Errc::not_found)
        return Settings{};
    if (!text)
        return tl::make_unexpected(std::move(text).error());
    auto settings = parse_settings({reinterpret_cast<const char*>(text->data()), text->size()});
    if (!settings)
        return tl::make_unexpected(std::move(settings).error().within(path));
    return settings;
}

}  // namespace vtpm::manager
