#include "commits.h"

#include <boost/asio/post.hpp>
#include <utility>

namespace vtpm::manager {

void Commits::add(const boost::asio::any_io_executor& loop, const Uuid& instance,
                  std::uint64_t expected_sequence, Changes changes, Answer answer) {
    waiting_.push_back({instance, expected_sequence, std::move(changes), std::move(answer)});
    // Behind all that is ready now.
    if (waiting_.size() == 1)
        boost::asio::post(loop, [this] { run(); });
}

void Commits::run() {
    const auto batch = std::exchange(waiting_, {});
    std::vector<vault::StoreRequest> requests;
    requests.reserve(batch.size());
    for (const Waiting& one : batch)
        requests.push_back({one.instance, one.expected_sequence, one.changes});
    auto answers = vault_.store_all(requests);
    for (std::size_t i = 0; i < batch.size(); ++i)
        batch[i].answer(std::move(answers[i]));
}

}  // namespace vtpm::manager
