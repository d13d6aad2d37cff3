// What a durable write costs without a TPM, in the file system that the vault is in.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <stdexcept>

#include "vtpm/base/fd.h"

namespace vtpm::bench {

class BareDisk {
  public:
    explicit BareDisk(const std::filesystem::path& directory) : directory_(directory) {
        std::filesystem::create_directory(directory);
        file_ = Fd(::open((directory / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        for (int i = 0; i < blocks; ++i)
            write_block(file_, i);
        sync(::fsync(file_.get()));
    }

    // 4 KiB over what is there, and fdatasync: the least that any durable write can cost.
    void overwrite() {
        write_block(file_, next_++ % blocks);
        sync(::fdatasync(file_.get()));
    }

    // A new file in the place of the old one, as swtpm's directory back end makes it, and fsync.
    void replace() {
        const auto name = directory_ / "new";
        {
            const Fd file(::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
            write_block(file, 0);
            sync(::fsync(file.get()));
        }
        std::filesystem::rename(name, directory_ / "old");
    }

  private:
    static constexpr int blocks = 256;

    static void sync(int done) {
        if (done != 0)
            throw std::runtime_error("the disk fails");
    }
    void write_block(const Fd& file, int at) {
        ++block_[0];
        if (::pwrite(file.get(), block_.data(), block_.size(),
                     static_cast<off_t>(at) * static_cast<off_t>(block_.size())) !=
            static_cast<ssize_t>(block_.size()))
            throw std::runtime_error("the disk fails");
    }

    std::filesystem::path directory_;
    Fd file_;
    int next_ = 0;
    std::array<std::uint8_t, 4096> block_{};
};

}  // namespace vtpm::bench
