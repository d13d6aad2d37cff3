#include "command_server.h"

#include "vtpm/base/log.h"
#include "vtpm/tpm/message.h"

namespace vtpm::engine_program {
namespace {

// How long a command waits for its commit, as when the manager waits for the chip or for a disk.
// Afterwards the guest gets an error for it, and its commands that need no write are served. A
// guest gives a short command of TPM 1.2 2 s, and then serves itself no more before that is
// answered.
StateClient::Patience commit_patience(tpm::Version version) {
    using std::chrono::milliseconds;
    return version == tpm::Version::v1_2 ? milliseconds(1500) : milliseconds(5000);
}

}  // namespace

std::size_t CommandServer::handle(ByteView request, std::uint8_t locality,
                                  MutableByteView response) {
    ++commands_;
    const auto header = tpm::parse_header(request);
    if (!header || header->size != request.size()) {
        return tpm::write_refusal(version_, tpm::Refusal::bad_size, response);
    }
    if (const auto why = policy_.objection(version_, request, locality)) {
        return tpm::write_refusal(version_, *why, response);
    }
    const std::size_t size = execute(request, header->code, locality, response);
    auto changes = engine_.take_changes();
    // While memory is ahead of the disk, nothing may be answered that a power cut could take back.
    if (changes.empty() &&
        (!state_.has_pending() || tpm::shows_no_lasting_state(version_, request))) {
        return size;
    }
    const auto committed = state_.commit(std::move(changes), commit_patience(version_));
    // Say it when it begins and when it ends: a guest can repeat the command as fast as it likes.
    if (committed.has_value() == commit_failing_) {
        commit_failing_ = !committed;
        if (committed) {
            spdlog::info("writes are durable again");
        } else {
            spdlog::error("a write could not be made durable, the guest gets an error: {}",
                          committed.error().context);
        }
    }
    if (committed)
        return size;
    return tpm::write_refusal(version_, tpm::Refusal::not_committed, response);
}

std::size_t CommandServer::execute(ByteView request, std::uint32_t ordinal, std::uint8_t locality,
                                   MutableByteView response) {
    if (!tpm::may_take_long(version_, ordinal)) {
        return engine_.execute(request, locality, response);
    }
    const CancelWatcher::Watch watch(watcher_, engine_);
    return engine_.execute(request, locality, response);
}

std::size_t CommandServer::refuse(xen::RequestFault, MutableByteView response) {
    return tpm::write_refusal(version_, tpm::Refusal::bad_size, response);
}

}  // namespace vtpm::engine_program
