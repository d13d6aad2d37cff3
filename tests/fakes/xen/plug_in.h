// What libxl writes for a vtpm device of domain 7 before anybody else sees it.
#pragma once

#include "fakes/xen/fake_store_tree.h"

namespace vtpm::xen {

inline constexpr const char* plugged_uuid = "0f8fad5b-d9cb-469f-a165-70867728950e";
inline const std::string plugged_own = "/local/domain/0/backend/vtpm/7/0";
inline const std::string plugged_frontend = "/local/domain/7/device/vtpm/0";

inline void plug_in(FakeStoreTree& tree) {
    tree.write(plugged_frontend + "/backend", plugged_own);
    tree.write(plugged_frontend + "/backend-id", "0");
    tree.write(plugged_frontend + "/state", "1");
    tree.write(plugged_own + "/frontend", plugged_frontend);
    tree.write(plugged_own + "/frontend-id", "7");
    tree.write(plugged_own + "/online", "1");
    tree.write(plugged_own + "/uuid", plugged_uuid);
    tree.write(plugged_own + "/state", "1");
}

}  // namespace vtpm::xen
