// LogFile: the file of the database's write-ahead log, for what SQLite does not do with it: making
// it long in advance, and overwriting what was in it. Private to the vault room; one thread.
//
// By a descriptor of our own for the time of such a work: SQLite's methods write less than
// 128 KiB at once. A POSIX lock would be lost when it closes; SQLite takes none on this file.
#pragma once

#include <cstdint>

#include "vtpm/base/fd.h"
#include "vtpm/base/result.h"

namespace vtpm::vault {

class LogFile {
  public:
    static Result<LogFile> open(const char* path);

    std::int64_t size() const { return size_; }
    // Without the zeros at its end.
    Result<std::int64_t> used() const;
    // Writes zeros, and syncs. Blocks that are only allocated would each be news to the file system
    // when they are first used. To SQLite a frame of zeros is the end of the log.
    Result<void> fill(std::int64_t from, std::int64_t to) const;

  private:
    LogFile(Fd file, std::int64_t size) : file_(std::move(file)), size_(size) {}
    Fd file_;
    std::int64_t size_;
};

}  // namespace vtpm::vault
