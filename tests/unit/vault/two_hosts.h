// What the tests of instances that move share: two vaults on two chips.
#pragma once

#include "fixture.h"

namespace vtpm::vault {

struct Host {
    TemporaryDirectory temporary;
    FakeChip chip;
    std::optional<SqliteVault> vault;

    explicit Host(std::uint8_t seed) : chip(seed) {
        vault.emplace(directory(), chip);
        REQUIRE(fine(vault->setup({})));
    }
    std::filesystem::path directory() const { return temporary.path() / "vault"; }
    std::filesystem::path database() const { return directory() / "vault.db"; }

    Uuid group() { return vault->find_group("")->uuid; }
    Bytes ticket() {
        const auto made = vault->make_ticket(group());
        REQUIRE(fine(made));
        return made->bytes;
    }
    Uuid made(const std::string& name, std::string_view state) {
        const auto instance = vault->create({.name = name, .tpm = 2, .sync = false});
        REQUIRE(fine(instance));
        if (!state.empty())
            REQUIRE(fine(vault->store(instance->uuid, 0, permanent(state))));
        return instance->uuid;
    }
    std::string loaded(const Uuid& uuid) {
        const auto state = vault->load(uuid);
        REQUIRE(fine(state));
        return blob_of(*state, BlobKind::permanent).value_or("(none)");
    }
    Bytes exported(const Uuid& uuid, const Bytes& ticket) {
        const auto done = vault->export_instance(uuid, ticket, false);
        REQUIRE(fine(done));
        return done->package;
    }
    // As a crash, and the next start.
    void reopen() {
        vault.reset();
        vault.emplace(directory(), chip);
        REQUIRE(fine(vault->unlock()));
    }
    std::vector<std::string> actions() {
        std::vector<std::string> out;
        const auto events = vault->journal(0, 1000);
        REQUIRE(fine(events));
        for (const auto& event : *events)
            out.push_back(event.action);
        return out;
    }
};

struct TwoHosts {
    Host source{1};
    Host target{2};
};

}  // namespace vtpm::vault
