#include "manager_world.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fakes/recovery_pair.h"

namespace vtpm::fuzz {
namespace {

struct VaultHost {
    fakes::TemporaryDirectory temporary;
    fakes::FakeChip chip;
    std::optional<vault::SqliteVault> vault;
    SecretBytes recovery_key;

    explicit VaultHost(std::uint8_t seed) : chip(seed) {
        vault.emplace(directory(), chip);
        recovery_key = std::move(sure(vault::set_up_with_key(*vault)).recovery_key_pem);
    }
    std::filesystem::path directory() const { return temporary.path() / "vault"; }
    Bytes ticket() { return sure(vault->make_ticket(sure(vault->find_group("")).uuid)).bytes; }
    Uuid make(const std::string& name, const std::optional<Uuid>& group = {}) {
        const auto made = sure(vault->create({.name = name, .tpm = 2, .group = group}));
        sure(vault->store(made.uuid, 0, state_of(name)));
        return made.uuid;
    }
};

wire::AsyncChannel::Socket socket(boost::asio::io_context& loop, Fd fd) {
    return {loop, boost::asio::local::stream_protocol(), fd.release()};
}

Fd nonblocking(Fd fd) {
    ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    return fd;
}

}  // namespace

std::vector<vault::BlobChange> state_of(std::string_view name) {
    std::vector<vault::BlobChange> changes;
    changes.push_back(
        {vault::BlobKind::permanent,
         SecretBytes::copy_of(as_bytes(std::string(secret_state) + std::string(name)))});
    return changes;
}

const Prepared& Prepared::get() {
    static const Prepared prepared;
    return prepared;
}

Prepared::Prepared() {
    VaultHost us(1);
    VaultHost other(2);
    const auto tenant = sure(us.vault->create_group("tenant", {}));
    for (const char* const name : {"alpha", "beta", "epsilon", "zeta"})
        uuids[name] = us.make(name);
    uuids["delta"] = us.make("delta", tenant.uuid);
    uuids["gamma"] = sure(us.vault->create({.name = "gamma", .tpm = 1})).uuid;
    sure(us.vault->remove(uuids["epsilon"]));
    uuids["eta"] = other.make("eta");
    uuids["theta"] = other.make("theta");
    imported = sure(other.vault->export_instance(uuids["eta"], us.ticket(), false)).package;
    sure(us.vault->import_package(imported, "", {}));
    package = sure(other.vault->export_instance(uuids["theta"], us.ticket(), false)).package;
    ticket = other.ticket();
    const auto gone = sure(us.vault->export_instance(uuids["zeta"], ticket, false));
    receipt = sure(other.vault->import_package(gone.package, "", {})).receipt;
    ticket = other.ticket();
    const auto key = us.recovery_key.view();
    recovery_key.assign(key.begin(), key.end());
    sure(us.vault->close());
    us.vault.reset();
    for (const auto& entry : std::filesystem::directory_iterator(us.directory()))
        files[entry.path().filename()] = sure(read_file(entry.path().c_str(), 16UL * 1024 * 1024));
    chip = us.chip.memory();
}

World::World(const std::map<std::string, Bytes>& files) {
    ::mkdir(directory().c_str(), 0700);
    for (const auto& [name, content] : files) {
        const Fd file(::open((directory() / name).c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600));
        sure(write_all(file.get(), content));
    }
    chip_.memory() = Prepared::get().chip;
    vault_.emplace(directory(), chip_);
    manager_.emplace(
        manager::Manager{settings_, chip_, *vault_, holders_, keys_, commits_.emplace(*vault_)});
    manager::try_unlock(*manager_);
}

// The clients are gone by now: their sessions end.
World::~World() {
    turn();
}

Fd World::connect() {
    auto pair = sure(stream_socket_pair());
    std::make_shared<manager::AdminSession>(*manager_, socket(loop_, std::move(pair.first)))
        ->start();
    return nonblocking(std::move(pair.second));
}

Fd World::attach(const Uuid& uuid) {
    auto pair = sure(stream_socket_pair());
    const auto session = std::make_shared<manager::EngineSession>(
        *manager_, uuid, socket(loop_, std::move(pair.first)));
    (void)holders_.acquire(uuid, {7, 0}, {});
    holders_.set_engine(uuid, session);
    session->start();
    return nonblocking(std::move(pair.second));
}

Bytes World::frame(const google::protobuf::MessageLite& message, ByteView payload) {
    const std::string text = message.SerializeAsString();
    ByteWriter writer;
    return writer.bytes(wire::frame_prefix({text.size(), payload.size()}))
        .bytes(as_bytes(text))
        .bytes(payload)
        .take();
}

std::optional<wire::Frame> World::exchange(const Fd& client, ByteView bytes) {
    while (!bytes.empty()) {
        const auto sent = ::send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        turn();
        if (sent <= 0)
            break;
        bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
    turn();
    pollfd answered{client.get(), POLLIN, 0};
    if (::poll(&answered, 1, 0) != 1)
        return std::nullopt;
    wire::Channel channel(sure(client.duplicate()));
    auto frame = channel.receive_with_descriptor(std::chrono::milliseconds(0));
    turn();
    if (!frame)
        return std::nullopt;
    return std::move(*frame);
}

void World::turn() {
    loop_.restart();
    while (loop_.poll() > 0) {
    }
}

bool World::reopen() {
    (void)vault_->close();
    vault_.reset();
    vault_.emplace(directory(), chip_);
    return vault_->unlock().has_value();
}

std::optional<wire::proto::Reply> reply_in(const std::optional<wire::Frame>& frame) {
    if (!frame)
        return std::nullopt;
    auto reply = wire::parse<wire::proto::Reply>(*frame);
    must(reply.has_value(), "a reply that its reader cannot read");
    must(reply->body_case() != wire::proto::Reply::BODY_NOT_SET, "a reply of nothing");
    const ByteView payload = frame->payload.view();
    const ByteView secret = as_bytes(secret_state);
    must(std::search(payload.begin(), payload.end(), secret.begin(), secret.end()) == payload.end(),
         "a state in a reply");
    return std::move(*reply);
}

}  // namespace vtpm::fuzz
