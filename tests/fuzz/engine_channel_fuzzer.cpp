// A conquered engine on its channel to vtpmmgrd: frames of every kind, in and out of sequence, with
// bytes changed. It can store its own instance's state in order, and nothing else.
#include "manager_world.h"

using namespace vtpm;
using namespace vtpm::fuzz;
using namespace vtpm::wire::proto;

namespace {

using Blobs = std::map<std::uint32_t, Bytes>;

class Engine {
  public:
    explicit Engine(Input& input, World& world) : input_(input), world_(world) {
        fresh_ = input.flag();
        uuid_ = Prepared::get().uuids.at(fresh_ ? "gamma" : "alpha");
        if (!fresh_) {
            const Bytes state = state_before();
            stored_[1] = state;
            sequence_ = 1;
        }
        channel_ = world.attach(uuid_);
    }

    void act() {
        switch (input_.pick(8)) {
            case 0:
                return load();
            case 1:
                return noise();
            case 2:
                channel_ = world_.attach(uuid_);  // the guest's next engine
                loaded_ = false;
                return;
            default:
                commit();
        }
    }

    // What the vault has is what was acknowledged, here and after a restart; nobody else's changed.
    void check() {
        for (int round = 0; round < 2; ++round) {
            const auto own = sure(world_.vault().load(uuid_));
            must(own.sequence == sequence_, "another sequence than was acknowledged");
            must(own.blobs.size() == stored_.size(), "other blobs than were acknowledged");
            for (const auto& [kind, content] : own.blobs) {
                const auto& expected = stored_.at(static_cast<std::uint32_t>(kind));
                must(equal_constant_time(content.view(), expected), "another state");
            }
            const auto other = sure(world_.vault().load(Prepared::get().uuids.at("beta")));
            const auto expected = state_of("beta");
            must(other.sequence == 1 && other.blobs.size() == 1 &&
                     equal_constant_time(other.blobs[0].second.view(), expected[0].content->view()),
                 "another instance's state has changed");
            if (round == 0)
                must(world_.reopen(), "the vault does not open again");
        }
    }

  private:
    static Bytes state_before() {
        const auto changes = state_of("alpha");
        const auto view = changes[0].content->view();
        return {view.begin(), view.end()};
    }

    std::optional<EngineReply> send(const Bytes& bytes) {
        const auto frame = world_.exchange(channel_, bytes);
        if (!frame)
            return std::nullopt;
        payload_ = frame->payload.clone();
        return sure(wire::parse<EngineReply>(*frame));
    }

    void load() {
        EngineRequest request;
        request.mutable_load();
        const auto reply = send(World::frame(request, {}));
        must(reply.has_value(), "a load without an answer");
        must(reply->has_loaded() != loaded_, "a state that is loaded twice, or never");
        loaded_ = true;
        if (!reply->has_loaded())
            return;
        must(reply->loaded().sequence() == sequence_, "another sequence");
        std::size_t size = reply->loaded().seed();
        for (const auto& blob : reply->loaded().blob())
            size += blob.size();
        must(size == payload_.size(), "a payload of another size");
    }

    void commit() {
        EngineRequest request;
        auto& commit = *request.mutable_commit();
        const bool right = !input_.rarely();
        commit.set_sequence(right ? sequence_ : input_.u64());
        Blobs wanted = stored_;
        Bytes payload;
        bool sound = right;
        const bool permanent_only = !input_.flag();
        for (int i = 0, n = permanent_only ? 1 : 1 + static_cast<int>(input_.pick(3)); i < n; ++i) {
            auto& blob = *commit.add_blob();
            blob.set_kind(input_.rarely() ? input_.u32() : i == 0 ? 1U : 3U);
            Bytes content =
                input_.rarely() ? Bytes(input_.edgy() % 600'000, 0x5a) : input_.bytes(64);
            blob.set_erased(content.empty());
            blob.set_size(input_.rarely() ? input_.u64() : content.size());
            payload.insert(payload.end(), content.begin(), content.end());
            const bool known = blob.kind() == 1 || blob.kind() == 3;
            for (int j = 0; j < i; ++j)
                sound = sound && commit.blob(j).kind() != blob.kind();
            sound = sound && known && blob.size() == content.size() &&
                    content.size() <= vault::Vault::max_blob_size &&
                    !(content.empty() && blob.kind() == 1);
            wanted.erase(blob.kind());
            if (!content.empty())
                wanted[blob.kind()] = content;
        }
        sound = sound && wanted.contains(1) &&
                (sequence_ > 0 || commit.blob(0).kind() == 1 ||
                 commit.blob(commit.blob_size() - 1).kind() == 1);
        if (payload.size() > 2 * vault::Vault::max_blob_size)
            return;  // the session would end without an answer
        const auto reply = send(World::frame(request, payload));
        must(reply.has_value(), "a commit without an answer");
        if (!reply->has_committed()) {
            must(!sound, "a good commit is refused");
            return;
        }
        if (commit.sequence() == sequence_) {
            must(sound, "a bad commit is taken");
            stored_ = wanted;
            last_ = World::frame(request, payload);
            ++sequence_;
        } else {
            must(World::frame(request, payload) == last_, "a commit out of order is taken");
        }
        must(reply->committed().sequence() == sequence_, "another sequence than the next");
    }

    void noise() {
        EngineRequest request;
        request.mutable_commit()->set_sequence(sequence_);
        request.mutable_commit()->add_blob()->set_kind(1);
        Bytes frame = World::frame(request, {});
        if (input_.flag()) {
            const std::string text = request.SerializeAsString();
            const Bytes message =
                input_.flag() ? input_.changed({text.begin(), text.end()}) : input_.bytes(256);
            frame = wire::frame_prefix({message.size(), 0});
            frame.insert(frame.end(), message.begin(), message.end());
            must(send(frame).has_value(), "a whole frame without an answer");
        } else {
            (void)send(input_.changed(frame));
        }
        // Out of step now, or closed. Something may have been stored, but in sequence.
        channel_ = world_.attach(uuid_);
        loaded_ = false;
        const auto own = sure(world_.vault().load(uuid_));
        must(own.sequence == sequence_ || own.sequence == sequence_ + 1, "a jump in the sequence");
        if (own.sequence == sequence_)
            return;
        sequence_ = own.sequence;
        last_ = frame;
        stored_.clear();
        for (const auto& [kind, content] : own.blobs) {
            const auto view = content.view();
            stored_[static_cast<std::uint32_t>(kind)].assign(view.begin(), view.end());
        }
    }

    Input& input_;
    World& world_;
    bool fresh_;
    Uuid uuid_;
    Fd channel_;
    bool loaded_ = false;
    std::uint64_t sequence_ = 0;
    Blobs stored_;
    Bytes last_;
    SecretBytes payload_;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    spdlog::set_level(spdlog::level::off);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    World world;
    Engine engine(input, world);
    for (int turn = 0; turn < 40 && !input.empty(); ++turn)
        engine.act();
    engine.check();
    return 0;
}
