// What the vault's tests share: a vault in a temporary directory on a FakeChip.
#pragma once

#include <sqlite3.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "fakes/chip/fake_chip.h"
#include "fakes/chip/swtpm.h"
#include "fakes/recovery_pair.h"
#include "vtpm/vault/sqlite_vault.h"

namespace vtpm::vault {

using fakes::FakeChip;
using fakes::TemporaryDirectory;

// What a chip answers that is not to be reached.
inline const Error chip_gone{Errc::unavailable, NextAction::retry_later, "gone"};

template <typename T>
bool fine(const Result<T>& result) {
    if (!result)
        UNSCOPED_INFO(to_string(result.error().code) << ": " << result.error().context);
    return result.has_value();
}

template <typename T>
std::optional<Errc> error_of(const Result<T>& result) {
    return result ? std::nullopt : std::optional(result.error().code);
}

// An instance that has lived elsewhere.
inline NewInstance moving_in(const std::string& name, SecretBytes permanent_state) {
    NewInstance wanted{name, 2};
    wanted.state.push_back({BlobKind::permanent, std::move(permanent_state)});
    return wanted;
}

inline SecretBytes secret_of(std::string_view text) {
    return SecretBytes::copy_of(as_bytes(text));
}

inline std::vector<BlobChange> permanent(std::string_view text) {
    std::vector<BlobChange> changes;
    changes.push_back({BlobKind::permanent, secret_of(text)});
    return changes;
}

inline std::optional<std::string> blob_of(const LoadedState& state, BlobKind kind) {
    for (const auto& [found, content] : state.blobs) {
        if (found == kind)
            return std::string(content.view().begin(), content.view().end());
    }
    return std::nullopt;
}

inline Bytes slurp(const std::filesystem::path& path) {
    // In one piece: logs of some megabytes are read some hundred times.
    Bytes content(std::filesystem::exists(path) ? std::filesystem::file_size(path) : 0);
    std::ifstream in(path, std::ios::binary);
    in.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(content.size()));
    content.resize(static_cast<std::size_t>(in.gcount()));
    return content;
}

inline void spit(const std::filesystem::path& path, const Bytes& bytes) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
}

// One SQL statement by somebody who has the disk but not the keys.
inline void sql(const std::filesystem::path& database, const std::string& statement) {
    sqlite3* raw = nullptr;
    REQUIRE(sqlite3_open(database.c_str(), &raw) == SQLITE_OK);
    char* error = nullptr;
    const int code = sqlite3_exec(raw, statement.c_str(), nullptr, nullptr, &error);
    const std::string text = error == nullptr ? "" : error;
    sqlite3_free(error);
    sqlite3_close(raw);
    INFO(statement << ": " << text);
    REQUIRE(code == SQLITE_OK);
}

// What such a query answers: one value.
inline Bytes blob(const std::filesystem::path& database, const std::string& query) {
    sqlite3* raw = nullptr;
    REQUIRE(sqlite3_open(database.c_str(), &raw) == SQLITE_OK);
    sqlite3_stmt* statement = nullptr;
    REQUIRE(sqlite3_prepare_v2(raw, query.c_str(), -1, &statement, nullptr) == SQLITE_OK);
    REQUIRE(sqlite3_step(statement) == SQLITE_ROW);
    const auto* data = static_cast<const std::uint8_t*>(sqlite3_column_blob(statement, 0));
    Bytes value(data, data + sqlite3_column_bytes(statement, 0));
    sqlite3_finalize(statement);
    sqlite3_close(raw);
    return value;
}

struct Fixture {
    TemporaryDirectory temporary;
    FakeChip chip;
    std::optional<SqliteVault> vault;

    Fixture() { vault.emplace(directory(), chip); }

    std::filesystem::path directory() const { return temporary.path() / "vault"; }
    std::filesystem::path database() const { return directory() / "vault.db"; }

    void set_up() { REQUIRE(fine(vault->setup({}))); }

    Uuid made(const std::string& name) {
        const auto instance = vault->create({name, 2, {}});
        REQUIRE(fine(instance));
        return instance->uuid;
    }

    // A store that must succeed; the new sequence.
    std::uint64_t stored(const Uuid& uuid, std::uint64_t expected, std::string_view text) {
        const auto sequence = vault->store(uuid, expected, permanent(text));
        REQUIRE(fine(sequence));
        return *sequence;
    }

    std::string loaded(const Uuid& uuid) {
        const auto state = vault->load(uuid);
        REQUIRE(fine(state));
        return blob_of(*state, BlobKind::permanent).value_or("(none)");
    }

    // As the manager's orderly end: the chip knows the last state.
    void close() {
        REQUIRE(fine(vault->close()));
        vault.reset();
    }
    // As its crash, and the next start.
    void reopen() {
        vault.reset();
        vault.emplace(directory(), chip);
    }
    void reopen_unlocked() {
        reopen();
        REQUIRE(fine(vault->unlock()));
    }
};

}  // namespace vtpm::vault
