// KeyKeeper: hands the vault's keys to the next vtpmmgrd of this boot, through systemd's descriptor
// store, and has the chip give them to nobody else.
//
// Once the keys lie in the store (a sealed memfd; nothing of it touches a disk) the boot latch is
// closed: not even root can unseal them again before the chip is reset. systemd gives the
// descriptor back when it restarts the service, after a crash too; "systemctl stop" drops it.
// Without systemd, or if the settings say so, the latch stays open and every start unseals. One
// thread.
#pragma once

#include <optional>
#include <vector>

#include "inherited.h"
#include "vtpm/base/secret_bytes.h"
#include "vtpm/vault/vault.h"

namespace vtpm::manager {

class KeyKeeper {
  public:
    // `enabled` as the settings have it; `stored` is what the store gave back.
    KeyKeeper(bool enabled, std::vector<NamedFd> stored);
    KeyKeeper(const KeyKeeper&) = delete;
    KeyKeeper& operator=(const KeyKeeper&) = delete;
    ~KeyKeeper();

    // What the forerunner left; none if there is nothing, or not what we put there.
    const std::optional<SecretBytes>& left_behind() const { return left_behind_; }

    // To be called when the vault has opened, or the keys at hand have changed: what was left
    // behind is forgotten, and what is at hand now is left to the next one. What goes wrong is
    // logged, too; the latch is then left as it is.
    Result<void> keep(vault::Vault& vault);

    // Keys that are about to be the vault's, with those that are: if the store has keys, it gets
    // these in their place until the next keep().
    void keep_ahead(const SecretBytes& keys);

  private:
    Result<void> store(const SecretBytes& keys);
    void hold(Fd memory, std::size_t size);
    void let_go();

    bool enabled_;
    std::optional<SecretBytes> left_behind_;
    unsigned number_ = 0;  // of the newest descriptor in the store
    std::vector<std::string> in_store_;
    // Mapped while we run: all our memory is locked, so that it is not swapped out.
    void* mapping_ = nullptr;
    std::size_t mapped_ = 0;
};

}  // namespace vtpm::manager
