// StateShelf: where libtpms' callbacks find and leave the TPM's state blobs, in this process's
// memory. Owned by the engine; one thread.
#pragma once

#include <array>
#include <vector>

#include "vtpm/engine/engine.h"

namespace vtpm::engine {

class StateShelf {
  public:
    // What libtpms is told about a blob that is not on the shelf.
    enum class Absence { new_tpm, broken };

    // Puts down what the TPM starts with. `permanent_absence` decides what a missing permanent blob
    // means: only an instance that was never stored may be manufactured.
    void fill(std::vector<StateBlob> blobs, Absence permanent_absence);

    const SecretBytes* find(StateKind kind) const;
    Absence absence(StateKind kind) const;

    void store(StateKind kind, ByteView content);
    void erase(StateKind kind);

    std::vector<StateBlob> take_changes();

  private:
    struct Slot {
        std::optional<SecretBytes> content;
        bool changed = false;
    };
    Slot& slot(StateKind kind) { return slots_[static_cast<std::size_t>(kind) - 1]; }

    std::array<Slot, 3> slots_;
    Absence permanent_absence_ = Absence::broken;
};

}  // namespace vtpm::engine
