// A directory of its own for a test's files.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

namespace vtpm::tests {

class Scratch {
  public:
    Scratch() {
        std::string name = (std::filesystem::temp_directory_path() / "vtpmctl-XXXXXX").string();
        path_ = ::mkdtemp(name.data());
    }
    ~Scratch() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

    std::string file(const std::string& name) const { return (path_ / name).string(); }
    std::string write(const std::string& name, std::string_view content) const {
        std::ofstream(file(name), std::ios::binary) << content;
        return file(name);
    }
    std::string read(const std::string& name) const {
        std::ostringstream content;
        content << std::ifstream(file(name), std::ios::binary).rdbuf();
        return content.str();
    }
    bool has(const std::string& name) const { return std::filesystem::exists(file(name)); }

    // In this directory, quietly; its exit status is 0.
    bool run(const std::string& command) const {
        const std::string line = "cd '" + path_.string() + "' && " + command + " >/dev/null 2>&1";
        return ::system(line.c_str()) == 0;
    }

  private:
    std::filesystem::path path_;
};

}  // namespace vtpm::tests
