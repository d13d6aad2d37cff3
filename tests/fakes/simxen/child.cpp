#include "fakes/simxen/child.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "vtpm/base/fd.h"

namespace vtpm::fakes {

Child::Child(const std::vector<std::string>& words, const std::vector<std::string>& environment,
             const std::vector<int>& descriptors) {
    const auto pointers = [](std::vector<std::string>& texts) {
        std::vector<char*> list;
        for (auto& text : texts)
            list.push_back(text.data());
        list.push_back(nullptr);
        return list;
    };
    std::vector<std::string> arguments = words;
    std::vector<std::string> variables = environment;  // the first of a name counts
    for (char** variable = environ; *variable != nullptr; ++variable)
        variables.emplace_back(*variable);
    const auto argv = pointers(arguments);
    const auto envp = pointers(variables);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    std::vector<Fd> out_of_the_way;
    for (const int descriptor : descriptors) {
        out_of_the_way.emplace_back(::fcntl(descriptor, F_DUPFD_CLOEXEC, 200));
        ::posix_spawn_file_actions_adddup2(&actions, out_of_the_way.back().get(),
                                           2 + static_cast<int>(out_of_the_way.size()));
    }
    const int failed = ::posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), envp.data());
    ::posix_spawn_file_actions_destroy(&actions);
    if (failed != 0)
        throw std::runtime_error("cannot start " + words[0]);
}

bool Child::running() {
    return pid_ > 0 && !wait(std::chrono::milliseconds(0));
}

void Child::terminate() {
    if (running())
        ::kill(pid_, SIGTERM);
}

void Child::kill() {
    if (pid_ <= 0 || status_)
        return;
    ::kill(pid_, SIGKILL);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    status_ = status;
}

std::optional<int> Child::wait(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (!status_) {
        int status = 0;
        if (::waitpid(pid_, &status, WNOHANG) == pid_)
            status_ = status;
        else if (std::chrono::steady_clock::now() >= end)
            break;
        else
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return status_;
}

std::vector<pid_t> children_of(pid_t pid) {
    std::vector<pid_t> found;
    std::error_code gone;
    const auto tasks = "/proc/" + std::to_string(pid) + "/task";
    for (const auto& task : std::filesystem::directory_iterator(tasks, gone)) {
        std::ifstream list(task.path() / "children");
        for (pid_t child = 0; list >> child;)
            found.push_back(child);
    }
    return found;
}

}  // namespace vtpm::fakes
