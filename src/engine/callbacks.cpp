#include "callbacks.h"

#include <libtpms/tpm_error.h>
#include <libtpms/tpm_library.h>
#include <libtpms/tpm_nvfilename.h>
#include <libtpms/tpm_types.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace vtpm::engine {
namespace {

StateShelf* the_shelf = nullptr;
std::uint8_t the_locality = 0;

bool kind_of(const char* name, StateKind& kind) {
    if (std::strcmp(name, TPM_PERMANENT_ALL_NAME) == 0) {
        kind = StateKind::permanent;
    } else if (std::strcmp(name, TPM_VOLATILESTATE_NAME) == 0) {
        kind = StateKind::volatile_state;
    } else if (std::strcmp(name, TPM_SAVESTATE_NAME) == 0) {
        kind = StateKind::saved;
    } else {
        return false;
    }
    return true;
}

TPM_RESULT nvram_init() {
    return TPM_SUCCESS;
}

// TPM_RETRY means "no such state" to libtpms, which then manufactures a new TPM and destroys the
// old identity. So it is said only where that is the truth; every doubt is TPM_FAIL.
TPM_RESULT load(unsigned char** data, std::uint32_t* length, std::uint32_t, const char* name) {
    StateKind kind{};
    if (the_shelf == nullptr || !kind_of(name, kind))
        return TPM_FAIL;
    const SecretBytes* content = the_shelf->find(kind);
    if (content == nullptr) {
        return the_shelf->absence(kind) == StateShelf::Absence::new_tpm ? TPM_RETRY : TPM_FAIL;
    }
    auto* copy = static_cast<unsigned char*>(std::malloc(content->size()));  // libtpms frees it
    if (copy == nullptr)
        return TPM_FAIL;
    std::copy(content->view().begin(), content->view().end(), copy);
    *data = copy;
    *length = static_cast<std::uint32_t>(content->size());
    return TPM_SUCCESS;
}

// Always succeeds: durability is decided after the command, by whoever takes the changes. An error
// from here would put libtpms into failure mode for good.
TPM_RESULT store(const unsigned char* data, std::uint32_t length, std::uint32_t,
                 const char* name) noexcept {
    StateKind kind{};
    if (the_shelf == nullptr || !kind_of(name, kind))
        return TPM_FAIL;
    the_shelf->store(kind, {data, length});
    return TPM_SUCCESS;
}

TPM_RESULT erase(std::uint32_t, const char* name, TPM_BOOL must_exist) {
    StateKind kind{};
    if (the_shelf == nullptr || !kind_of(name, kind))
        return TPM_FAIL;
    if (the_shelf->find(kind) == nullptr)
        return must_exist != 0 ? TPM_FAIL : TPM_SUCCESS;
    the_shelf->erase(kind);
    return TPM_SUCCESS;
}

TPM_RESULT io_init() {
    return TPM_SUCCESS;
}

TPM_RESULT locality(TPM_MODIFIER_INDICATOR* value, std::uint32_t) {
    *value = the_locality;
    return TPM_SUCCESS;
}

// Nobody can press a button on a virtual TPM.
TPM_RESULT physical_presence(TPM_BOOL* present, std::uint32_t) {
    *present = 0;
    return TPM_SUCCESS;
}

}  // namespace

Result<void> register_callbacks(StateShelf& shelf) {
    the_shelf = &shelf;
    libtpms_callbacks callbacks{};
    callbacks.sizeOfStruct = sizeof(callbacks);
    callbacks.tpm_nvram_init = nvram_init;
    callbacks.tpm_nvram_loaddata = load;
    callbacks.tpm_nvram_storedata = store;
    callbacks.tpm_nvram_deletename = erase;
    callbacks.tpm_io_init = io_init;
    callbacks.tpm_io_getlocality = locality;
    callbacks.tpm_io_getphysicalpresence = physical_presence;
    if (TPMLIB_RegisterCallbacks(&callbacks) != TPM_SUCCESS) {
        return fail(Errc::unsupported, "libtpms refused the callbacks");
    }
    return {};
}

void set_locality(std::uint8_t value) {
    the_locality = value;
}

}  // namespace vtpm::engine
