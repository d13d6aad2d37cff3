// A vtpmmgrd without its main(): sessions on socket pairs, and a real vault in memory on a
// FakeChip. Every World begins with the same vault, made once a process. One thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <map>
#include <optional>

#include "admin_session.h"
#include "engine_session.h"
#include "fakes/chip/fake_chip.h"
#include "fakes/chip/swtpm.h"
#include "input.h"
#include "vtpm/base/log.h"
#include "vtpm/vault/sqlite_vault.h"

namespace vtpm::fuzz {

inline constexpr std::string_view secret_state = "the state of a TPM, which nobody may see";

template <typename T>
T sure(Result<T> result) {
    if (!result)
        std::fprintf(stderr, "%s\n", result.error().context.c_str());
    must(result.has_value(), "what cannot fail has failed");
    if constexpr (!std::is_void_v<T>)
        return std::move(*result);
}

std::vector<vault::BlobChange> state_of(std::string_view name);

// What Worlds begin with: alpha, beta and (in group "tenant") delta have a state, gamma has none,
// epsilon is deleted, eta has come from another host, zeta has gone there and is not confirmed.
struct Prepared {
    std::map<std::string, Bytes> files;
    fakes::FakeChip::Memory chip;
    std::map<std::string, Uuid> uuids;
    Bytes recovery_key;
    Bytes ticket;    // of another host
    Bytes receipt;   // for zeta
    Bytes package;   // theta, to be imported
    Bytes imported;  // eta's package

    static const Prepared& get();

  private:
    Prepared();
};

class World {
  public:
    // `files`: in place of the prepared ones.
    explicit World(const std::map<std::string, Bytes>& files = Prepared::get().files);
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    std::filesystem::path directory() const { return temporary_.path() / "vault"; }
    vault::SqliteVault& vault() { return *vault_; }
    manager::Settings& settings() { return settings_; }

    // The client's end of a new administrator's connection.
    Fd connect();
    Fd attach(const Uuid& uuid);

    static Bytes frame(const google::protobuf::MessageLite& message, ByteView payload);
    // Sends bytes; what comes back, if anything does.
    std::optional<wire::Frame> exchange(const Fd& client, ByteView bytes);
    // As at the daemon's end, and the next start on the same disk; whether that opens the vault.
    bool reopen();

  private:
    void turn();

    fakes::TemporaryDirectory temporary_;
    fakes::FakeChip chip_;
    manager::Settings settings_;
    std::optional<vault::SqliteVault> vault_;
    boost::asio::io_context loop_{1};
    manager::Holders holders_;
    manager::KeyKeeper keys_{false, {}};
    std::optional<manager::Commits> commits_;
    std::optional<manager::Manager> manager_;
};

// Every text of every reply reaches its reader: one that is not UTF-8 would not.
std::optional<wire::proto::Reply> reply_in(const std::optional<wire::Frame>& frame);

}  // namespace vtpm::fuzz
