// DescriptorStore: the descriptors that a vtpmd leaves to the next one of its device. systemd keeps
// them while the unit is restarted, after a crash too, and drops them at "systemctl stop"; an
// engine whose order channel is dropped ends. sd_pid_notify_with_fds(3), FDSTORE=1.
//
// A vtpmd that is started by hand has no store: what it would leave is gone with it. One thread.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "vtpm/base/fd.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/wire/channel.h"

namespace vtpm::doorman {

class DescriptorStore {
  public:
    using Descriptors = std::vector<Fd>;
    // systemd gives several of one name back in any order.
    enum class Kind { socket, pipe, other };
    static Kind kind_of(const Fd& descriptor);

    DescriptorStore() = default;
    // With what the vtpmd before us has left; takes it out of the environment.
    static DescriptorStore inherited();

    // All of them under one name, and at once: whenever we die, the store has all or none. At most
    // 253 descriptors; a name has no colon. An error is logged only: what is lost by it is lost by
    // a crash alone.
    void put(const std::string& name, std::span<const int> descriptors);
    void drop(const std::string& name);

    // What was left under this name; they stay in the store. Empty: none, or taken already.
    Descriptors take(const std::string& name);
    // Under which names something was left that begin like this and were not taken yet.
    std::vector<std::string> left(std::string_view prefix) const;

    // Bytes instead of a descriptor, at most max_memory of them. A copy of what was left; empty:
    // none, taken already, or not to be read.
    static constexpr std::size_t max_memory = wire::max_payload_size;
    Result<void> put_memory(const std::string& name, ByteView bytes);
    SecretBytes take_memory(const std::string& name);

    // The same 16 random bytes for every vtpmd that gets this store.
    Result<SecretBytes> secret();
    // Others, for who has no store and no heir.
    static Result<SecretBytes> new_secret();

  private:
    std::map<std::string, Descriptors, std::less<>> left_;
};

}  // namespace vtpm::doorman
