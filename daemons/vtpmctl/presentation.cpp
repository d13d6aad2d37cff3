#include "presentation.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <iostream>

#include "story.h"
#include "vtpm/base/uuid.h"
#include "vtpm/tpm/version.h"

namespace vtpm::control {
namespace {

std::string tpm_text(std::uint32_t number) {
    const auto version = tpm::version_from_number(number);
    return version ? std::string(tpm::to_string(*version)) : "?";
}

std::string holder_text(const wire::proto::Instance& instance) {
    if (!instance.in_use())
        return "-";
    constexpr std::uint32_t first_seat = 0x8000;  // above Xen's domains: guests of QEMU
    if (instance.domain() >= first_seat)
        return "vtpm-swtpm";
    return "domain " + std::to_string(instance.domain());
}

std::string group_text(const wire::proto::Instance& instance, const std::string& name) {
    const std::string uuid = uuid_text(instance.group());
    return name.empty() ? uuid : name + " (" + uuid + ")";
}

Row head() {
    return {"NAME", "UUID", "TPM", "STATE", "HELD BY", "LAST WRITE"};
}

Row row_of(const wire::proto::Instance& instance) {
    return {instance.name(),  uuid_text(instance.uuid()), tpm_text(instance.tpm()),
            instance.state(), holder_text(instance),      time_text(instance.committed())};
}

// The host's clock is the manager's, too; one that was set back since makes it none.
std::int64_t seconds_since(std::int64_t then) {
    return std::max<std::int64_t>(0, std::time(nullptr) - then);
}

std::string latch_text(const std::string& latch) {
    if (latch == "closed")
        return "closed: the chip gives the keys to nobody before this host's next boot";
    if (latch == "open")
        return "open: the chip still gives the keys to whoever is root here";
    return "none: the chip gives the keys to whoever is root here, at any time";
}

}  // namespace

void print_json(const nlohmann::json& json) {
    std::cout << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
}

std::string line(const std::string& label, const std::string& value) {
    constexpr std::size_t width = 14;
    return label + std::string(width - std::min(width, label.size()), ' ') + value + "\n";
}

std::string printable(const std::string& text) {
    std::string out;
    for (const char c : text)
        out.push_back(c >= ' ' && c < 0x7f ? c : '?');
    return out;
}

std::string uuid_text(const std::string& raw) {
    const auto uuid = Uuid::from_bytes(as_bytes(raw));
    return uuid ? uuid->to_string() : "";
}

std::string time_text(std::int64_t seconds) {
    if (seconds == 0)
        return "never";
    const std::time_t time = seconds;
    std::tm parts{};
    if (gmtime_r(&time, &parts) == nullptr)
        return "?";
    std::array<char, 32> text{};
    const auto size = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return {text.data(), size};
}

std::string xl_line(const wire::proto::Instance& instance) {
    return "vtpm=[\"backend=0,uuid=" + uuid_text(instance.uuid()) + "\"]";
}

nlohmann::json to_json(const wire::proto::Instance& instance) {
    nlohmann::json json = {
        {"uuid", uuid_text(instance.uuid())},
        {"name", instance.name()},
        {"tpm", tpm_text(instance.tpm())},
        {"state", instance.state()},
        {"group", uuid_text(instance.group())},
        {"key_generation", instance.generation()},
        {"sequence", instance.sequence()},
        {"created", time_text(instance.created())},
        {"committed", instance.committed() == 0 ? nlohmann::json(nullptr)
                                                : nlohmann::json(time_text(instance.committed()))},
        {"bytes", instance.bytes_stored()},
        {"sync", instance.sync()},
        {"in_use", instance.in_use()},
        {"reverts", instance.reverts()},
        {"clones", instance.clones()},
        {"snapshots", instance.snapshots()},
        {"snapshot_bytes", instance.snapshot_bytes()},
        {"xl", xl_line(instance)},
    };
    if (instance.in_use()) {
        json["domain"] = instance.domain();
        json["device"] = instance.device();
    }
    if (instance.moved() != 0) {
        json[instance.state() == "exported" ? "exported_to" : "imported_from"] =
            uuid_text(instance.peer());
        json["moved"] = time_text(instance.moved());
    }
    if (!instance.origin().empty())
        json["clone_of"] = uuid_text(instance.origin());
    if (instance.has_story())
        json["story"] = to_json(instance.story());
    return json;
}

nlohmann::json to_json(const wire::proto::Failure& failure) {
    return {{"code", failure.code()}, {"next", failure.next()}, {"text", failure.context()}};
}

nlohmann::json to_json(const wire::proto::Status& status) {
    nlohmann::json json = {
        {"state", status.phase()},
        {"manager", status.manager().empty() ? nlohmann::json(nullptr)
                                             : nlohmann::json(uuid_text(status.manager()))},
        {"chip", status.chip()},
        {"tcti", status.tcti()},
        {"chip_tpm",
         status.chip_tpm().empty() ? nlohmann::json(nullptr) : nlohmann::json(status.chip_tpm())},
        {"limits", std::vector<std::string>(status.limit().begin(), status.limit().end())},
        {"binding", status.binding()},
        {"boot_latch", status.latch()},
        {"groups", status.groups()},
        {"closed_groups", status.closed_groups()},
        {"instances", status.instances()},
        {"in_use", status.in_use()},
        {"snapshot_bytes", status.snapshot_bytes()},
        {"last_commit", status.last_commit() == 0
                            ? nlohmann::json(nullptr)
                            : nlohmann::json(time_text(status.last_commit()))},
        {"recovery_key", status.recovery()},
        {"auto_create", status.auto_create()},
        {"format", status.format()},
        {"version", status.version()},
    };
    if (status.has_freshness()) {
        const auto& fresh = status.freshness();
        json["freshness"] = {
            {"epoch", fresh.epoch()},          {"committed", time_text(fresh.committed())},
            {"writes_since", fresh.writes()},  {"seconds_since", seconds_since(fresh.committed())},
            {"tokens", fresh.tokens()},        {"chip_writes", fresh.chip_writes()},
            {"recoveries", fresh.recoveries()}};
    }
    if (status.has_reason())
        json["reason"] = to_json(status.reason());
    return json;
}

std::string describe(const wire::proto::Instance& instance, const std::string& group) {
    std::string text =
        line("name", instance.name()) + line("uuid", uuid_text(instance.uuid())) +
        line("TPM", tpm_text(instance.tpm())) + line("group", group_text(instance, group)) +
        line("state", instance.state()) + line("held by", holder_text(instance)) +
        line("created", time_text(instance.created())) +
        line("last write", time_text(instance.committed())) +
        line("writes", std::to_string(instance.sequence())) +
        line("stored", std::to_string(instance.bytes_stored()) + " bytes") +
        line("commits", instance.sync() ? "each write, to the chip as well"
                                        : "each write to the disk, many to the chip at once") +
        line("key", "generation " + std::to_string(instance.generation())) +
        line("xl line", xl_line(instance));
    if (instance.snapshots() > 0)
        text += line("snapshots", std::to_string(instance.snapshots()) + ", " +
                                      std::to_string(instance.snapshot_bytes()) + " bytes");
    if (instance.reverts() > 0)
        text += line("reverts", std::to_string(instance.reverts()) + " to a snapshot, so far");
    if (!instance.origin().empty())
        text += line("clone of", uuid_text(instance.origin()) + ", with the same identity");
    if (instance.clones() > 0)
        text += line("clones",
                     std::to_string(instance.clones()) + " made of it, with the same identity");
    return text + (instance.has_story() ? story_of(instance.story()) : std::string());
}

std::string describe(const wire::proto::Status& status) {
    std::string text = line("state", status.phase());
    if (status.has_reason())
        text += line("because", status.reason().context());
    if (!status.manager().empty())
        text += line("manager", uuid_text(status.manager()));
    const bool seen = !status.chip().empty();
    const std::string generation =
        status.chip_tpm().empty() ? "(not seen)" : "a TPM " + status.chip_tpm();
    text += line("chip", seen ? status.chip() : generation);
    if (!seen && status.chip_tpm() == "1.2")
        text += line("", "which is set up with --legacy-tpm12 only; see vtpmctl(8)");
    for (const auto& limit : status.limit())
        text += line("it cannot", limit);
    text += line("through", status.tcti());
    if (!status.binding().empty())
        text += line("keys", status.binding());
    if (!status.latch().empty() && status.phase() != "not-set-up")
        text += line("boot latch", latch_text(status.latch()));
    if (status.phase() == "open") {  // else nobody knows
        text += line("groups", std::to_string(status.groups()) +
                                   (status.closed_groups() == 0
                                        ? ", all open"
                                        : ", closed: " + std::to_string(status.closed_groups())));
        text += line("instances", std::to_string(status.instances()) + ", " +
                                      std::to_string(status.in_use()) + " in use");
        if (status.snapshot_bytes() > 0)
            text += line("snapshots", std::to_string(status.snapshot_bytes()) + " bytes in all");
        text += line("last write", time_text(status.last_commit()));
        const auto& fresh = status.freshness();
        text += line("epoch", std::to_string(fresh.epoch()) + ", committed to the chip " +
                                  time_text(fresh.committed()) + ", " +
                                  std::to_string(seconds_since(fresh.committed())) +
                                  " s ago; writes since: " + std::to_string(fresh.writes()));
        text += line("chip writes", std::to_string(fresh.chip_writes()) + " so far, " +
                                        std::to_string(fresh.tokens()) + " at hand");
        text += line("recoveries", std::to_string(fresh.recoveries()));
    }
    text += line("recovery key",
                 status.recovery() ? "made" : "none: vtpmctl setup --recovery-out FILE makes one");
    text += line("auto_create", status.auto_create() ? "on" : "off");
    text += line("version", status.version() + ", format " + std::to_string(status.format()));
    return text;
}

std::string table(const std::vector<wire::proto::Instance>& instances) {
    std::vector<Row> rows = {head()};
    for (const auto& instance : instances)
        rows.push_back(row_of(instance));
    return aligned(rows);
}

std::string watch_line(const wire::proto::Instance* instance) {
    constexpr std::array<std::size_t, 6> widths = {20, 36, 3, 11, 12, 20};
    const Row row = instance == nullptr ? head() : row_of(*instance);
    std::string text;
    for (std::size_t i = 0; i < row.size(); ++i)
        text += row[i] + std::string(widths[i] - std::min(widths[i], row[i].size()) + 2, ' ');
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

std::string aligned(const std::vector<Row>& rows) {
    std::vector<std::size_t> widths(rows.empty() ? 0 : rows.front().size());
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], row[i].size());
    }
    std::string text;
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            const bool last = i + 1 == row.size();
            text += row[i] + std::string(last ? 0 : widths[i] - row[i].size() + 2, ' ');
        }
        text += '\n';
    }
    return text;
}

}  // namespace vtpm::control
