// Disk: a directory on a disk that can lose power.
//
// The system calls by which the vault and SQLite change files below its directory are counted and
// recorded (disk_calls.cpp puts itself in their place, for the whole program). What the programs
// see is the page cache: everything. What lies on the disk is what was synced, and of the rest
// whatever the test chooses: any part of the writes, torn at sectors, of the truncations and of the
// changes to directories, in any order. A name is on the disk when its directory was synced, not
// when the file was. One disk at a time; one thread.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "contents.h"
#include "vtpm/base/bytes.h"

namespace vtpm::crash {

using Random = std::mt19937;
// Less than `bound`.
inline std::size_t below(Random& random, std::size_t bound) {
    return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random);
}
inline bool one_in(Random& random, std::size_t n) {
    return below(random, n) == 0;
}

// What lies in the vault's directory; none: there is no directory.
using Files = std::map<std::string, Contents>;
using Image = std::optional<Files>;

// Lays an image down as `directory`, in the place of what is there. Not recorded.
void lay_down(const Image& image, const std::filesystem::path& directory);

class Disk {
  public:
    // The vault's directory is `parent`/vault; `image` lies there, synced.
    Disk(std::filesystem::path parent, const Image& image);
    ~Disk();
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;

    // The nth operation from now (1: the next) and all after it do not happen.
    void crash_at(std::size_t nth) { crash_at_ = operations_ + nth; }
    bool crashed() const { return operations_ >= crash_at_; }
    std::size_t operations() const { return operations_; }
    // One more operation, of the chip for example. False: the power is gone.
    bool step();
    // Before each operation.
    void on_step(std::function<void()> what) { on_step_ = std::move(what); }

    // The nth sync from now gives EIO, and some of what it should have written is never written.
    void fail_sync(std::size_t nth) { fail_sync_ = nth; }
    bool sync_failed() const { return sync_failed_; }
    // A disk that says it has synced and has not.
    enum class Lie { none, of_directories, always };
    void lie(Lie lie) { lie_ = lie; }
    // The last sync of a file was a lie: what it should have written is in doubt again.
    void take_back_sync();

    // What the disk may hold if the power fails now.
    Image after_power_cut(Random& random) const;
    // With bit n saying whether the nth of the operations in doubt has happened.
    Image with(std::uint64_t happened) const;
    std::size_t in_doubt() const;
    // All that was written.
    Image cache() const;

    // For disk_calls.cpp.
    static Disk* active() { return active_; }
    bool covers(std::string_view path) const;
    void opened(int fd, std::string_view path, bool created);
    bool covers(int fd) const { return descriptors_.contains(fd); }
    void closed(int fd) { descriptors_.erase(fd); }
    void wrote(int fd, std::size_t offset, ByteView data);
    void truncated(int fd, std::size_t size);
    bool synced(int fd);  // false: EIO
    void removed(std::string_view path);
    void renamed(std::string_view from, std::string_view to);
    void made_directory() { exists_ = true; }

  private:
    using Inode = std::size_t;
    static constexpr Inode the_parent = 0;
    static constexpr Inode the_directory = 1;
    struct Change {  // of a file's contents
        std::size_t offset = 0;
        Bytes data;
        bool truncates = false;
    };
    struct File {
        Contents cached;
        Contents durable;
        std::vector<Change> pending;
    };
    struct NameChange {  // `name` means `inode` from now on, or nothing
        std::string name;
        std::string replaces;  // renamed from
        Inode inode = 0;
    };
    using Names = std::map<std::string, Inode>;

    std::string name_of(std::string_view path) const;
    static void apply(const Change& change, Contents& to);
    static void apply_torn(const Change& change, Contents& to, Random& random);
    static void apply(const NameChange& change, Names& names);
    void change(int fd, Change change);

    static Disk* active_;
    std::filesystem::path parent_;
    std::filesystem::path directory_;
    bool exists_ = false;
    bool durable_ = false;  // the directory itself
    std::vector<File> files_;
    Names names_;
    Names durable_names_;
    std::vector<NameChange> pending_names_;
    std::map<int, Inode> descriptors_;
    std::size_t operations_ = 0;
    std::size_t crash_at_ = SIZE_MAX;
    std::size_t fail_sync_ = 0;
    bool sync_failed_ = false;
    Lie lie_ = Lie::none;
    Inode last_synced_ = the_directory;  // which is no file: none
    File before_sync_;                   // the last one, but for what is cached
    std::function<void()> on_step_;
};

}  // namespace vtpm::crash
