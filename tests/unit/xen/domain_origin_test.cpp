#include "vtpm/xen/domain_origin.h"

#include <catch2/catch.hpp>

#include "fakes/xen/fake_domains.h"
#include "fakes/xen/fake_store.h"
#include "fakes/xen/fake_store_tree.h"

using namespace vtpm;
using namespace vtpm::xen;

namespace {

constexpr DomainId domid = 5;
constexpr std::uint32_t name = 1U << 24U;

struct Scene {
    FakeStoreTree tree;
    FakeStore store{tree};
    FakeDomains domains;

    Scene() { domains.set(domid, DomainState::paused); }
    void pv(bool kernel) {
        REQUIRE(store.write("/libxl/5/type", "pv"));
        REQUIRE(store.write("/local/domain/5/vm", "/vm/some"));
        REQUIRE(store.write("/vm/some/image/ostype", "linux"));
        if (kernel)
            REQUIRE(store.write("/vm/some/image/kernel", "/boot/vmlinuz"));
    }
    Result<DomainOrigin> origin(bool new_device = true,
                                std::optional<std::uint32_t> named = std::nullopt) {
        return origin_of(store, domains, domid, new_device, named);
    }
};

}  // namespace

TEST_CASE("a domain that Xen has counted once was created") {
    Scene scene;
    SECTION("PV") {
        scene.pv(true);
    }
    SECTION("of another type") {
        REQUIRE(scene.store.write("/libxl/5/type", "pvh"));
    }
    SECTION("of no type that we know") {}
    CHECK(scene.origin()->beginning == Beginning::created);
    CHECK(scene.origin(false)->beginning == Beginning::created);
    // Under the name that it got from us it is the same domain.
    scene.domains.count(domid, name);
    CHECK(scene.origin(true, name)->beginning == Beginning::created);
    CHECK(scene.origin(true, name)->incarnation == name);
}

TEST_CASE("a domain that Xen has counted further was restored") {
    Scene scene;
    scene.domains.count(domid, name + 1);
    SECTION("PV") {
        scene.pv(false);
    }
    SECTION("of another type") {}
    CHECK(scene.origin()->beginning == Beginning::restored);
    CHECK(scene.origin()->incarnation == name + 1);
    CHECK(scene.origin(true, name)->beginning == Beginning::restored);
    // A vtpmd that is started anew may find it at work already.
    scene.domains.set(domid, DomainState::running);
    CHECK(scene.origin(false)->beginning == Beginning::restored);
}

TEST_CASE("a new device of a domain that runs was attached") {
    Scene scene;
    scene.domains.set(domid, DomainState::running);
    scene.domains.count(domid, name + 1);
    CHECK(scene.origin()->beginning == Beginning::attached);
}

TEST_CASE("what contradicts itself or cannot be seen is not guessed") {
    Scene scene;
    SECTION("restored with a kernel") {
        scene.pv(true);
        scene.domains.count(domid, 2);
    }
    SECTION("created without") {
        scene.pv(false);
    }
    SECTION("no word from the hypervisor") {
        scene.domains.fail_call(1);
    }
    SECTION("not counted") {
        scene.domains.fail_call(2);
    }
    CHECK_FALSE(scene.origin());
}
