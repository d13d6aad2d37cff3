#include "disk.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

namespace vtpm::crash {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t sector = 512;

}  // namespace

Disk* Disk::active_ = nullptr;

void lay_down(const Image& image, const fs::path& directory) {
    fs::remove_all(directory);
    if (!image)
        return;
    fs::create_directory(directory);
    fs::permissions(directory, fs::perms::owner_all);
    for (const auto& [name, content] : *image) {
        std::ofstream out(directory / name, std::ios::binary);
        content.for_each_page([&](std::size_t offset, ByteView page) {
            out.seekp(static_cast<std::streamoff>(offset));
            out.write(reinterpret_cast<const char*>(page.data()),
                      static_cast<std::streamsize>(page.size()));
        });
        out.close();
        fs::resize_file(directory / name, content.size());
        fs::permissions(directory / name, fs::perms::owner_read | fs::perms::owner_write);
    }
}

Disk::Disk(fs::path parent, const Image& image)
    : parent_(std::move(parent)), directory_(parent_ / "vault"), files_(2) {
    lay_down(image, directory_);
    exists_ = durable_ = image.has_value();
    for (const auto& [name, content] : image.value_or(Files())) {
        names_[name] = files_.size();
        files_.push_back({content, content, {}});
    }
    durable_names_ = names_;
    active_ = this;
}

Disk::~Disk() {
    active_ = nullptr;
}

bool Disk::step() {
    if (on_step_ && !crashed())
        on_step_();
    if (!crashed())
        ++operations_;
    return !crashed();
}

bool Disk::covers(std::string_view path) const {
    return path == parent_.native() || path.starts_with(directory_.native());
}

// Empty: the directory itself.
std::string Disk::name_of(std::string_view path) const {
    path.remove_prefix(std::min(path.size(), directory_.native().size() + 1));
    return std::string(path);
}

void Disk::opened(int fd, std::string_view path, bool created) {
    const std::string name = name_of(path);
    if (path == parent_.native() || name == "..") {
        descriptors_[fd] = the_parent;
        return;
    }
    if (name.empty()) {
        descriptors_[fd] = the_directory;
        return;
    }
    if (!names_.contains(name)) {
        if (!created)
            return;
        pending_names_.push_back({name, {}, files_.size()});
        apply(pending_names_.back(), names_);
        files_.emplace_back();
    }
    descriptors_[fd] = names_.at(name);
}

void Disk::wrote(int fd, std::size_t offset, ByteView data) {
    change(fd, {offset, Bytes(data.begin(), data.end()), false});
}

void Disk::truncated(int fd, std::size_t size) {
    change(fd, {size, {}, true});
}

void Disk::change(int fd, Change change) {
    File& file = files_[descriptors_.at(fd)];
    apply(change, file.cached);
    file.pending.push_back(std::move(change));
}

bool Disk::synced(int fd) {
    const Inode inode = descriptors_.at(fd);
    const bool fails = fail_sync_ > 0 && --fail_sync_ == 0;
    sync_failed_ = sync_failed_ || fails;
    const bool of_directory = inode == the_parent || inode == the_directory;
    if (lie_ == Lie::always || (lie_ == Lie::of_directories && of_directory))
        return !fails;
    if (inode == the_parent) {
        durable_ = exists_ && (durable_ || !fails);
    } else if (inode == the_directory) {
        if (!fails) {
            durable_names_ = names_;
            pending_names_.clear();
        }
    } else {
        // A page that could not be written is clean afterwards: nobody tries again.
        File& file = files_[inode];
        before_sync_.durable = file.durable;
        for (std::size_t i = 0; i < file.pending.size(); ++i) {
            if (!fails || i % 2 == 0)
                apply(file.pending[i], file.durable);
        }
        before_sync_.pending = std::exchange(file.pending, {});
        last_synced_ = inode;
    }
    return !fails;
}

void Disk::take_back_sync() {
    if (last_synced_ == the_directory)
        return;
    File& file = files_[last_synced_];
    file.durable = std::move(before_sync_.durable);
    std::swap(file.pending, before_sync_.pending);
    std::move(before_sync_.pending.begin(), before_sync_.pending.end(),
              std::back_inserter(file.pending));
    last_synced_ = the_directory;
}

void Disk::removed(std::string_view path) {
    pending_names_.push_back({name_of(path), {}, 0});
    apply(pending_names_.back(), names_);
}

void Disk::renamed(std::string_view from, std::string_view to) {
    const std::string old = name_of(from);
    pending_names_.push_back({name_of(to), old, names_.at(old)});
    apply(pending_names_.back(), names_);
}

void Disk::apply(const NameChange& change, Names& names) {
    if (change.inode == 0) {
        names.erase(change.name);
        return;
    }
    names[change.name] = change.inode;
    names.erase(change.replaces);
}

void Disk::apply(const Change& change, Contents& to) {
    if (change.truncates)
        to.resize(change.offset);
    else
        to.write(change.offset, change.data);
}

// Sector by sector: there or not; of one that is not, its place may be there, with anything in it.
void Disk::apply_torn(const Change& change, Contents& to, Random& random) {
    for (std::size_t at = 0; at < change.data.size();) {
        const std::size_t position = change.offset + at;
        const std::size_t size = std::min(sector - position % sector, change.data.size() - at);
        if (one_in(random, 2)) {
            to.write(position, ByteView(change.data).subspan(at, size));
        } else if (to.size() < position + size && one_in(random, 2)) {
            to.resize(position + size, one_in(random, 2) ? 0 : 0xa5);
        }
        at += size;
    }
}

Image Disk::cache() const {
    if (!exists_)
        return std::nullopt;
    Files image;
    for (const auto& [name, inode] : names_)
        image[name] = files_[inode].cached;
    return image;
}

Image Disk::after_power_cut(Random& random) const {
    if (!durable_ && (!exists_ || one_in(random, 2)))
        return std::nullopt;
    // How much of what was not synced has arrived: nothing, all, or `share` quarters of it.
    const std::size_t share = below(random, 5);
    const auto arrives = [&] { return below(random, 4) < share; };
    Names names = durable_names_;
    for (const NameChange& change : pending_names_) {
        if (arrives())
            apply(change, names);
    }
    Files image;
    for (const auto& [name, inode] : names) {
        Contents content = files_[inode].durable;
        for (const Change& change : files_[inode].pending) {
            if (arrives())
                apply(change, content);
            else if (!change.truncates && one_in(random, 2))
                apply_torn(change, content, random);
        }
        image[name] = std::move(content);
    }
    return image;
}

std::size_t Disk::in_doubt() const {
    std::size_t count = pending_names_.size() + (exists_ && !durable_ ? 1 : 0);
    for (const File& file : files_)
        count += file.pending.size();
    return count;
}

Image Disk::with(std::uint64_t happened) const {
    const auto arrives = [&] {
        const bool yes = (happened & 1U) != 0;
        happened >>= 1U;
        return yes;
    };
    if (!exists_ || (!durable_ && !arrives()))
        return std::nullopt;
    Names names = durable_names_;
    for (const NameChange& change : pending_names_) {
        if (arrives())
            apply(change, names);
    }
    std::vector<Contents> contents;
    for (const File& file : files_) {
        contents.push_back(file.durable);
        for (const Change& change : file.pending) {
            if (arrives())
                apply(change, contents.back());
        }
    }
    Files image;
    for (const auto& [name, inode] : names)
        image[name] = contents[inode];
    return image;
}

}  // namespace vtpm::crash
