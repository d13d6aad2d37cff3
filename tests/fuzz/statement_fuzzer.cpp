// A boot statement's file (JSON), as an approver gets it and as it comes back: one that is right,
// with bytes changed, or text with a dictionary.
#include "boot_statement.h"
#include "input.h"

using namespace vtpm;
using namespace vtpm::control;
using fuzz::Input;
using fuzz::must;

namespace {

BootStatement statement(Input& input) {
    BootStatement statement;
    statement.manager = Uuid::parse("0f8fad5b-d9cb-469f-a165-70867728950e").value();
    statement.group = Uuid::parse("7c9e6679-7425-40de-944b-e07fc1f90ae7").value();
    statement.group_name = "tenant";
    for (std::size_t i = 0; i <= input.pick(4); ++i)
        statement.pcrs[static_cast<std::uint8_t>(input.u8() % 24)].fill(input.u8());
    statement.limit = input.u64();
    statement.words = Bytes(BootStatement::words_size, input.u8());
    statement.signature = input.bytes(80);
    return statement;
}

// The same with one field of another length, of another kind, or without it.
Bytes odd(nlohmann::json file, Input& input) {
    auto field = file.begin();
    std::advance(field, static_cast<std::ptrdiff_t>(input.pick(file.size())));
    if (input.rarely()) {
        file.erase(field);
    } else if (field->is_string() && !input.rarely()) {
        auto text = field->get<std::string>();
        text.resize(input.pick(2 * text.size() + 1), 'a');
        *field = text;
    } else {
        *field = input.u64();
    }
    const std::string text = file.dump();
    return {text.begin(), text.end()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size > 0 && data[0] == '{') {
        (void)parse_statement({data, size});
        return 0;
    }
    Input input(data, size);
    const auto good = statement(input);
    const std::string text = to_json(good).dump(input.flag() ? 2 : -1);
    const auto again = parse_statement(as_bytes(text));
    must(again && again->pcrs == good.pcrs && again->limit == good.limit &&
             again->words == good.words && again->signature == good.signature &&
             again->group == good.group && again->manager == good.manager,
         "a statement does not survive its file");
    const auto damaged = parse_statement(input.flag() ? odd(to_json(good), input)
                                                      : input.changed({text.begin(), text.end()}));
    if (!damaged)
        return 0;
    must(!damaged->pcrs.empty() && damaged->words.size() == BootStatement::words_size,
         "a statement of nothing");
    must(parse_statement(as_bytes(to_json(*damaged).dump())).has_value(), "read, but not written");
    return 0;
}
