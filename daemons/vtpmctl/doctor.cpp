#include "doctor.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <initializer_list>
#include <iostream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "group_commands.h"
#include "presentation.h"
#include "vtpm/base/fd.h"

namespace vtpm::control {
namespace {

using Findings = std::vector<Finding>;

bool exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

bool exists_any(std::initializer_list<const char*> paths) {
    for (const char* path : paths) {
        if (exists(path))
            return true;
    }
    return false;
}

std::string first_line(const std::string& path) {
    const auto content = read_file(path.c_str(), 4096);
    if (!content)
        return "";
    const std::string text(content->begin(), content->end());
    return text.substr(0, text.find('\n'));
}

void check(Findings& findings, bool fine, std::string subject, std::string good, std::string bad) {
    findings.push_back({fine ? Health::fine : Health::problem, std::move(subject),
                        fine ? std::move(good) : std::move(bad)});
}

void examine_xen(Findings& findings) {
    check(findings, first_line("/proc/xen/capabilities").find("control_d") != std::string::npos,
          "xen", "this is dom0",
          "this is not a Xen dom0: boot the Xen entry of the boot menu (package "
          "xen-system-amd64), and run vtpmctl in dom0");
    std::string missing;
    for (const char* node : {"gntdev", "evtchn", "privcmd"}) {
        if (!exists(std::string("/dev/xen/") + node))
            missing += std::string(" /dev/xen/") + node;
    }
    check(findings, missing.empty(), "xen devices", "there",
          "missing:" + missing + "; try: modprobe -a xen-gntdev xen-evtchn xen-privcmd");
    check(findings, exists_any({"/run/xenstored/socket", "/var/run/xenstored/socket"}), "xenstore",
          "xenstored has its socket", "xenstored does not run; try: systemctl start xenstored");
}

// "tpm0", or under which number the kernel has the chip after its driver has found it anew, as
// vtpmmgrd looks for it (vtpm/chip/kernel_devices.h; this program has no chip in it).
std::string chip_name() {
    if (exists("/sys/class/tpm/tpm0"))
        return "tpm0";
    std::error_code unknown;
    for (std::filesystem::directory_iterator entry("/sys/class/tpm", unknown), end;
         !unknown && entry != end; entry.increment(unknown)) {
        std::error_code none;
        if (std::filesystem::exists(entry->path() / "device", none))
            return entry->path().filename().string();
    }
    return "tpm0";
}

void examine_chip(Findings& findings) {
    const std::string name = chip_name();
    if (!exists("/dev/" + name)) {
        check(findings, false, "chip", "",
              "no /dev/" + name +
                  ": switch the TPM on in the firmware's set-up; look at: dmesg | grep -i tpm");
        return;
    }
    const auto major = first_line("/sys/class/tpm/" + name + "/tpm_version_major");
    check(findings, true, "chip",
          "/dev/" + name +
              (major != "1" ? " is there, TPM 2.0"
                            : " is there, a TPM 1.2: see HOSTS WITH A TPM 1.2 in vtpmctl(8)"),
          "");
}

void examine_installation(Findings& findings) {
    check(
        findings,
        exists_any({"/usr/lib/udev/rules.d/70-xen-vtpm.rules",
                    "/lib/udev/rules.d/70-xen-vtpm.rules", "/etc/udev/rules.d/70-xen-vtpm.rules"}),
        "udev rule", "there",
        "70-xen-vtpm.rules is missing: guests' devices will not be noticed; reinstall xen-vtpm");
    check(findings, ::access("/etc/xen/scripts/vtpm", X_OK) == 0, "hotplug script", "there",
          "/etc/xen/scripts/vtpm is missing or not executable; reinstall xen-vtpm");
}

// `systemctl is-active --quiet UNIT`, by its exit status.
bool unit_is_active(const char* unit) {
    std::string program = "systemctl";
    std::string verb = "is-active";
    std::string quiet = "--quiet";
    std::string name = unit;
    char* const arguments[] = {program.data(), verb.data(), quiet.data(), name.data(), nullptr};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t pid = -1;
    const int spawned = ::posix_spawnp(&pid, "systemctl", &actions, nullptr, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    int status = -1;
    return spawned == 0 && ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

void examine_units(Findings& findings) {
    for (const char* unit : {"vtpmmgrd.socket", "vtpm-coldplug.service"}) {
        check(findings, unit_is_active(unit), unit, "active",
              std::string("not active; try: systemctl enable --now ") + unit);
    }
}

void examine_vault(Findings& findings, const wire::proto::Status& status) {
    if (status.phase() == "not-set-up") {
        check(findings, false, "vault", "",
              "this host is not set up: " + status.reason().context());
        return;
    }
    check(findings, status.phase() == "open", "vault",
          "open, " + std::to_string(status.instances()) + " instances",
          status.phase() + ": " + status.reason().context());
    if (!status.recovery()) {
        findings.push_back(
            {Health::warning, "recovery",
             "no recovery key: a dead mainboard takes the guests' TPMs with it; run: "
             "vtpmctl setup --recovery-out FILE"});
    }
    const std::int64_t now = std::time(nullptr);
    check(findings, status.last_commit() <= now + 60, "clock",
          "last write " + time_text(status.last_commit()),
          "the last write lies in the future (" + time_text(status.last_commit()) +
              "): set the clock");
}

void examine_policy(Findings& findings, ManagerConnection& manager) {
    wire::proto::Request request;
    request.mutable_approvals();
    const auto answer = manager.ask(request);
    const auto groups = answer ? groups_of(manager) : tl::make_unexpected(answer.error());
    if (!groups) {
        findings.push_back({Health::warning, "approvals", groups.error().context});
        return;
    }
    const auto& all = answer->message.approvals().approval();
    const auto found = examine_approvals(*groups, {all.begin(), all.end()});
    findings.insert(findings.end(), found.begin(), found.end());
}

void examine_manager(Findings& findings, const std::string& socket) {
    wire::proto::Request request;
    request.mutable_status();
    auto connection = ManagerConnection::open(socket);
    auto answer = connection ? connection->ask(request)
                             : Result<Answer>(tl::make_unexpected(connection.error()));
    check(findings, answer.has_value(), "vtpmmgrd", "answers",
          answer ? "" : answer.error().context + "; look at: journalctl -u vtpmmgrd");
    if (!answer)
        return;
    examine_vault(findings, answer->message.status());
    if (answer->message.status().phase() != "not-set-up")
        examine_policy(findings, *connection);
}

std::string_view word(Health health) {
    switch (health) {
        case Health::fine:
            return "ok";
        case Health::warning:
            return "warning";
        case Health::problem:
            return "PROBLEM";
    }
    return "?";
}

}  // namespace

Findings examine(const std::string& manager_socket) {
    Findings findings;
    examine_xen(findings);
    examine_chip(findings);
    examine_installation(findings);
    examine_units(findings);
    examine_manager(findings, manager_socket);
    return findings;
}

Findings examine_approvals(const std::vector<wire::proto::Group>& groups,
                           const std::vector<wire::proto::Approval>& approvals) {
    Findings findings;
    bool approver = false;
    for (const auto& group : groups) {
        const bool legacy = group.approver().empty() && group.pcr_size() > 0;  // on a TPM 1.2
        if (group.approver().empty() && !legacy)
            continue;
        approver = true;
        const bool approved =
            std::any_of(approvals.begin(), approvals.end(), [&](const auto& approval) {
                return approval.group() == group.uuid() && approval.this_boot() &&
                       !approval.revoked();
            });
        if (approved) {
            findings.push_back(
                {Health::fine, "group " + group.name(), "this boot is approved, and one like it"});
            continue;
        }
        findings.push_back({Health::warning, "group " + group.name(),
                            "no approval is for a boot like this one: the next start would be "
                            "locked; run: vtpmctl approve this-boot --group " +
                                group.name() + (legacy ? " --legacy-tpm12" : "")});
    }
    if (!approver) {
        findings.push_back({Health::warning, "approver",
                            "nobody approves this host's boots: the chip gives the keys to "
                            "whatever is booted on it; see: vtpmctl approver"});
    }
    return findings;
}

bool report(const Findings& findings, bool json) {
    bool healthy = true;
    auto list = nlohmann::json::array();
    for (const auto& finding : findings) {
        healthy = healthy && finding.health != Health::problem;
        list.push_back(
            {{"check", finding.subject}, {"result", word(finding.health)}, {"text", finding.text}});
        if (!json) {
            std::cout << word(finding.health) << std::string(9 - word(finding.health).size(), ' ')
                      << finding.subject << ": " << finding.text << "\n";
        }
    }
    if (json)
        std::cout << list.dump(2) << "\n";
    return healthy;
}

}  // namespace vtpm::control
