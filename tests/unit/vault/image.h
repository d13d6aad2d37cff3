// A copy of a vault's directory, as a thief of disks or an administrator's backup makes one.
#pragma once

#include <utility>
#include <vector>

#include "fixture.h"

namespace vtpm::vault {

class Image {
  public:
    explicit Image(std::filesystem::path directory) : directory_(std::move(directory)) {
        for (const auto& entry : std::filesystem::directory_iterator(directory_))
            files_.emplace_back(entry.path().filename(), slurp(entry.path()));
    }
    void put_back() const {
        namespace fs = std::filesystem;
        for (const auto& entry : fs::directory_iterator(directory_))
            fs::remove(entry.path());
        for (const auto& [name, content] : files_) {
            spit(directory_ / name, content);
            fs::permissions(directory_ / name, fs::perms::owner_read | fs::perms::owner_write);
        }
    }

  private:
    std::filesystem::path directory_;
    std::vector<std::pair<std::filesystem::path, Bytes>> files_;
};

}  // namespace vtpm::vault
