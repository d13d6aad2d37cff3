// Commits: gathers what engines want to have stored, and waits for the disk once for all of it.
//
// What has arrived in one turn of the event loop goes to the vault together, at the end of that
// turn: a lone engine waits for nobody, and while the disk works the next ones queue up in their
// sockets. An engine sends its next commit after the answer to this one, so each has one at most.
// One thread.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <functional>
#include <vector>

#include "vtpm/vault/vault.h"

namespace vtpm::manager {

class Commits {
  public:
    using Changes = std::vector<vault::BlobChange>;
    using Answer = std::function<void(Result<std::uint64_t>)>;

    explicit Commits(vault::Vault& vault) : vault_(vault) {}

    // `answer` is called when the changes are durable, or will not be; not before this returns.
    void add(const boost::asio::any_io_executor& loop, const Uuid& instance,
             std::uint64_t expected_sequence, Changes changes, Answer answer);

    // Now, not at the end of this turn: somebody wants to see the newest state.
    void run();

  private:
    struct Waiting {
        Uuid instance;
        std::uint64_t expected_sequence;
        Changes changes;
        Answer answer;
    };

    vault::Vault& vault_;
    std::vector<Waiting> waiting_;
};

}  // namespace vtpm::manager
