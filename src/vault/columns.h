// Columns: reads a row's columns in order, and remembers whether all were what they should be.
//
// Private to the vault room. What cannot be read becomes an empty value and `sound()` false: a row
// of a damaged database is judged as a whole, and some of it may still be worth showing.
#pragma once

#include <algorithm>

#include "database.h"
#include "hash.h"
#include "vtpm/base/uuid.h"

namespace vtpm::vault {

// What SQLite keeps as a signed number is written into MACs and packages as an unsigned one.
constexpr std::uint64_t u64(std::int64_t value) {
    return static_cast<std::uint64_t>(value);
}

class Columns {
  public:
    explicit Columns(const Statement& row) : row_(row) {}

    std::int64_t integer() { return kept(row_.integer(at_++)).value_or(0); }

    // 0 to `limit`.
    std::int64_t integer_up_to(std::int64_t limit) {
        const std::int64_t value = integer();
        if (value >= 0 && value <= limit)
            return value;
        sound_ = false;
        return 0;
    }

    std::string text() { return kept(row_.text(at_++)).value_or(std::string()); }

    // Printable ASCII, and no more of it than this: for people who read it before it is verified.
    std::string plain_text(std::size_t limit) {
        std::string read = text();
        const bool plain =
            std::all_of(read.begin(), read.end(), [](char c) { return c >= ' ' && c < 0x7f; });
        if (plain && read.size() <= limit)
            return read;
        sound_ = false;
        return {};
    }

    Bytes bytes() {
        const auto view = kept(row_.blob(at_++)).value_or(ByteView());
        return {view.begin(), view.end()};
    }

    std::optional<std::string> optional_text() {
        if (row_.is_null(at_)) {
            ++at_;
            return std::nullopt;
        }
        return text();
    }

    std::optional<std::int64_t> optional_integer() {
        if (row_.is_null(at_)) {
            ++at_;
            return std::nullopt;
        }
        return integer();
    }

    // NULL is an empty value.
    Bytes optional_bytes() { return row_.is_null(at_) ? (++at_, Bytes()) : bytes(); }

    Hash hash() {
        Hash out{};
        const Bytes raw = bytes();
        if (raw.size() == out.size()) {
            std::copy(raw.begin(), raw.end(), out.begin());
        } else {
            sound_ = false;
        }
        return out;
    }

    std::optional<Hash> optional_hash() {
        if (row_.is_null(at_)) {
            ++at_;
            return std::nullopt;
        }
        return hash();
    }

    Uuid uuid() {
        const auto parsed = Uuid::from_bytes(bytes());
        if (!parsed)
            sound_ = false;
        return parsed.value_or(Uuid());
    }

    bool sound() const { return sound_; }
    // What was read is not what it should be.
    void spoil() { sound_ = false; }

  private:
    template <typename T>
    T kept(T value) {
        if (!value)
            sound_ = false;
        return value;
    }

    const Statement& row_;
    int at_ = 0;
    bool sound_ = true;
};

}  // namespace vtpm::vault
