#include "vtpm/engine/state_shelf.h"

namespace vtpm::engine {

void StateShelf::fill(std::vector<StateBlob> blobs, Absence permanent_absence) {
    slots_ = {};
    permanent_absence_ = permanent_absence;
    for (auto& blob : blobs)
        slot(blob.kind).content = std::move(blob.content);
}

const SecretBytes* StateShelf::find(StateKind kind) const {
    const auto& content = slots_[static_cast<std::size_t>(kind) - 1].content;
    return content ? &*content : nullptr;
}

// The other kinds come and go in normal life; libtpms asks for them and expects "no such blob".
StateShelf::Absence StateShelf::absence(StateKind kind) const {
    return kind == StateKind::permanent ? permanent_absence_ : Absence::new_tpm;
}

void StateShelf::store(StateKind kind, ByteView content) {
    slot(kind) = Slot{SecretBytes::copy_of(content), true};
    // From now on the TPM exists: should its blob vanish, that is damage, not a new TPM.
    if (kind == StateKind::permanent)
        permanent_absence_ = Absence::broken;
}

void StateShelf::erase(StateKind kind) {
    slot(kind) = Slot{std::nullopt, true};
}

std::vector<StateBlob> StateShelf::take_changes() {
    std::vector<StateBlob> changes;
    for (const auto kind : {StateKind::permanent, StateKind::saved}) {
        Slot& changed = slot(kind);
        if (!std::exchange(changed.changed, false))
            continue;
        std::optional<SecretBytes> content;
        if (changed.content)
            content = changed.content->clone();
        changes.push_back({kind, std::move(content)});
    }
    return changes;
}

}  // namespace vtpm::engine
