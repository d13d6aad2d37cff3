#include "watch.h"

#include <unistd.h>

#include <iostream>
#include <set>
#include <thread>

#include "presentation.h"

namespace vtpm::control {
namespace {

// Home, and whatever was there before is gone.
constexpr std::string_view over = "\x1b[H\x1b[2J";

std::string with_end(std::string line) {
    if (line.empty() || line.back() != '\n')
        line.push_back('\n');
    return line;
}

std::string one_line(const nlohmann::json& json) {
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void paint(const std::vector<wire::proto::Instance>& instances, Changes& changes, bool terminal) {
    if (terminal)
        std::cout << over << table(instances);
    else
        std::cout << changes.next(instances);
    std::cout.flush();
}

}  // namespace

std::string Changes::next(const std::vector<wire::proto::Instance>& instances) {
    std::string text;
    if (!json_ && std::exchange(first_, false))
        text = with_end(watch_line(nullptr));
    std::set<std::string> there;
    for (const auto& instance : instances) {
        there.insert(instance.uuid());
        const std::string line = json_ ? one_line(to_json(instance)) : watch_line(&instance);
        auto& known = known_[instance.uuid()];
        if (known.second == line)
            continue;
        known = {instance.name(), line};
        text += with_end(line);
    }
    for (auto gone = known_.begin(); gone != known_.end();) {
        if (there.contains(gone->first)) {
            ++gone;
            continue;
        }
        const auto& name = gone->second.first;
        text += with_end(
            json_ ? one_line({{"uuid", uuid_text(gone->first)}, {"name", name}, {"state", "gone"}})
                  : printable(name) + "  " + uuid_text(gone->first) + "  gone");
        gone = known_.erase(gone);
    }
    return text;
}

Result<void> watch(ManagerConnection& manager, const WatchOptions& options, Output output) {
    const bool terminal = !output.json && ::isatty(STDOUT_FILENO) == 1;
    const auto wait = options.wait ? options.wait : [&] {
        std::this_thread::sleep_for(std::chrono::seconds(options.seconds));
        return true;
    };
    Changes changes(output.json);
    std::optional<ManagerConnection> again;
    bool lost = false;
    do {
        const auto instances = all_instances(again ? *again : manager);
        if (instances) {
            lost = false;
            paint(*instances, changes, terminal);
            continue;
        }
        const Error& error = instances.error();
        if (error.code != Errc::unavailable && error.code != Errc::timeout)
            return tl::make_unexpected(error);  // the manager has said no
        if (!std::exchange(lost, true))
            std::cerr << "vtpmctl: " << error.context << "; waiting for vtpmmgrd\n";
        if (auto opened = ManagerConnection::open(options.socket))
            again.emplace(std::move(*opened));
    } while (std::cout && wait());
    return {};
}

}  // namespace vtpm::control
