#include "policy_presentation.h"

#include <algorithm>

#include "presentation.h"

namespace vtpm::control {
namespace {

constexpr std::size_t short_digest = 16;  // hex digits, as the journal has them

template <typename Numbers>
std::string joined(const Numbers& numbers) {
    std::string text;
    for (const auto number : numbers)
        text += (text.empty() ? "" : ", ") + std::to_string(number);
    return text;
}

std::string approver_text(const wire::proto::Group& group) {
    if (group.approver().empty() && group.pcr_size() > 0)
        return "root, here (TPM 1.2)";
    if (group.approver().empty())
        return "none: any boot";
    return "SHA-256 " + to_hex(as_bytes(group.approver())).substr(0, short_digest);
}

std::string state_text(const wire::proto::Group& group) {
    return group.open() ? "open" : "closed";
}

std::string group_text(const std::string& uuid, const std::vector<wire::proto::Group>& groups) {
    for (const auto& group : groups) {
        if (group.uuid() == uuid)
            return group.name();
    }
    return uuid_text(uuid);
}

std::string boot_text(const wire::proto::Approval& approval) {
    if (approval.revoked())
        return "void";
    return approval.this_boot() ? "this boot" : "other boot";
}

}  // namespace

nlohmann::json to_json(const wire::proto::Group& group) {
    nlohmann::json json = {
        {"uuid", uuid_text(group.uuid())},
        {"name", group.name()},
        {"default", group.is_default()},
        {"state", state_text(group)},
        {"approver", group.approver().empty() ? nlohmann::json(nullptr)
                                              : nlohmann::json(to_hex(as_bytes(group.approver())))},
        {"pcrs", nlohmann::json::array()},
        {"key_generation", group.generation()},
        {"instances", group.instances()}};
    for (const auto number : group.pcr())
        json["pcrs"].push_back(number);
    if (group.has_reason())
        json["reason"] = to_json(group.reason());
    return json;
}

std::string describe(const wire::proto::Group& group) {
    std::string text =
        line("group", group.name() + (group.is_default() ? ", the default group" : "")) +
        line("uuid", uuid_text(group.uuid())) + line("state", state_text(group));
    if (group.has_reason())
        text += line("because", group.reason().context());
    text += line("approver", approver_text(group));
    if (group.pcr_size() > 0)
        text += line("PCRs", joined(group.pcr()));
    return text + line("key", "generation " + std::to_string(group.generation())) +
           line("instances", std::to_string(group.instances()));
}

std::string table(const std::vector<wire::proto::Group>& groups) {
    std::vector<Row> rows = {{"NAME", "UUID", "STATE", "INSTANCES", "APPROVER", "PCRS"}};
    for (const auto& group : groups) {
        rows.push_back({group.name(), uuid_text(group.uuid()), state_text(group),
                        std::to_string(group.instances()), approver_text(group),
                        group.pcr_size() > 0 ? joined(group.pcr()) : "-"});
    }
    return aligned(rows);
}

nlohmann::json to_json(const wire::proto::Approval& approval,
                       const std::vector<wire::proto::Group>& groups) {
    auto pcrs = nlohmann::json::object();
    for (const auto& pcr : approval.pcr())
        pcrs[std::to_string(pcr.number())] = to_hex(as_bytes(pcr.value()));
    return {{"group", uuid_text(approval.group())},
            {"group_name", group_text(approval.group(), groups)},
            {"pcrs", pcrs},
            {"limit", approval.limit()},
            {"void", approval.revoked()},
            {"this_boot", approval.this_boot()},
            {"made", approval.made() == 0 ? nlohmann::json(nullptr)
                                          : nlohmann::json(time_text(approval.made()))}};
}

std::string table(const std::vector<wire::proto::Approval>& approvals,
                  const std::vector<wire::proto::Group>& groups) {
    std::vector<Row> rows = {{"GROUP", "PCRS", "LIMIT", "FOR", "WHEN"}};
    for (const auto& approval : approvals) {
        std::vector<std::uint32_t> numbers;
        for (const auto& pcr : approval.pcr())
            numbers.push_back(pcr.number());
        rows.push_back({group_text(approval.group(), groups), joined(numbers),
                        std::to_string(approval.limit()), boot_text(approval),
                        approval.made() == 0 ? "-" : time_text(approval.made())});
    }
    return aligned(rows);
}

nlohmann::json to_json(const wire::proto::LogLine& line) {
    return {{"number", line.number()}, {"time", time_text(line.at())}, {"who", line.actor()},
            {"what", line.action()},   {"subject", line.subject()},    {"sound", line.sound()}};
}

std::string table(const std::vector<wire::proto::LogLine>& lines) {
    std::vector<Row> rows = {{"NUMBER", "TIME", "WHO", "WHAT", "SUBJECT"}};
    for (const auto& line : lines) {
        rows.push_back({std::to_string(line.number()), time_text(line.at()),
                        printable(line.actor()), printable(line.action()),
                        (line.sound() ? "" : "!!! CHANGED, OR LINES BEFORE IT ARE GONE !!! ") +
                            printable(line.subject())});
    }
    return aligned(rows);
}

std::string describe(const PcrValues& pcrs, const PcrValues& now) {
    std::string text;
    for (const auto& [number, value] : pcrs) {
        const auto before = now.find(number);
        const bool changed = before == now.end() || before->second != value;
        text += line("PCR " + std::to_string(number),
                     to_hex(value) + (changed ? "  (not as it is now)" : ""));
    }
    return text;
}

std::string numbers_text(const PcrValues& pcrs) {
    std::vector<unsigned> numbers;
    for (const auto& [number, value] : pcrs)
        numbers.push_back(number);
    return joined(numbers);
}

}  // namespace vtpm::control
