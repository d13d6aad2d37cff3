// What the tests of snapshots share: a vault with one instance that has stored something.
#pragma once

#include "fixture.h"

namespace vtpm::vault {

struct Scene : Fixture {
    Uuid web;

    Scene() {
        set_up();
        web = made("web1");
        stored(web, 0, "one");
    }

    Instance facts(const Uuid& uuid) {
        const auto found = vault->get(uuid);
        REQUIRE(fine(found));
        return *found;
    }
    void snapshot(const std::string& name) { REQUIRE(fine(vault->take_snapshot(web, name))); }
    void revert(const std::string& name) { REQUIRE(fine(vault->revert(web, name))); }
    std::string names(const Uuid& uuid) {
        const auto kept = vault->snapshots(uuid);
        REQUIRE(fine(kept));
        std::string text;
        for (const auto& snapshot : *kept)
            text += snapshot.name + "@" + std::to_string(snapshot.sequence) + " ";
        return text;
    }
    std::string last_line() {
        const auto lines = vault->journal(0, 1000);
        REQUIRE(fine(lines));
        return lines->back().action + ": " + lines->back().subject;
    }
};

inline std::string of(const Uuid& uuid) {
    return " (" + uuid.to_string() + ")";
}

}  // namespace vtpm::vault
