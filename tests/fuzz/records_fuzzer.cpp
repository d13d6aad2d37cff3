// The database under the vault: values of any row changed, exchanged or taken out, or bytes of the
// file; then everything is asked for. What comes out is what was put in, or an error; never
// another's state, and never a TPM that is new.
#include <sqlite3.h>

#include "manager_world.h"

using namespace vtpm;
using namespace vtpm::fuzz;
using namespace vtpm::wire::proto;

namespace {

// The database in memory, as somebody has it who has the disk but not the keys.
class Disk {
  public:
    explicit Disk(const Bytes& file) {
        Bytes copy = file;
        copy.at(18) = copy.at(19) = 1;  // what is in memory has no log
        auto* const image = static_cast<unsigned char*>(sqlite3_malloc64(copy.size()));
        std::copy(copy.begin(), copy.end(), image);
        const auto size = static_cast<sqlite3_int64>(copy.size());
        must(sqlite3_open(":memory:", &database_) == SQLITE_OK &&
                 sqlite3_deserialize(
                     database_, "main", image, size, size,
                     SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE) == SQLITE_OK,
             "the database cannot be opened");
    }
    ~Disk() { sqlite3_close(database_); }
    Disk(const Disk&) = delete;
    Disk& operator=(const Disk&) = delete;

    Bytes file() const {
        sqlite3_int64 size = 0;
        auto* const image = sqlite3_serialize(database_, "main", &size, 0);
        Bytes file(image, image + size);
        sqlite3_free(image);
        file.at(18) = file.at(19) = 2;
        return file;
    }

    void change(Input& input) {
        const auto& table = input.one_of(tables());
        const std::string rows = std::to_string(input.pick(8));
        const std::string row = " FROM " + table.name + " LIMIT 1 OFFSET " + rows;
        const std::string where = " WHERE rowid = (SELECT rowid" + row + ")";
        const auto& column = input.one_of(table.columns);
        const std::array extremes = {"NULL", "-9223372036854775808", "9223372036854775807"};
        switch (input.pick(16)) {
            case 0:
                return run("DELETE FROM " + table.name + where);
            case 1:  // the same of another row
                return run("UPDATE " + table.name + " SET " + column + " = (SELECT " + column +
                           " FROM " + table.name + " LIMIT 1 OFFSET " +
                           std::to_string(input.pick(8)) + ")" + where);
            case 2:  // another kind of value
                return set(table.name, column, where, input.text(100), true);
            case 3:
                return run("UPDATE " + table.name + " SET " + column + " = " +
                           input.one_of(extremes) + where);
            case 4:
                return run("INSERT OR REPLACE INTO " + table.name + " SELECT " + joined(table) +
                           row);
            case 5:
            case 6:
            case 7:
                return run("UPDATE " + table.name + " SET " + column + " = " +
                           std::to_string(static_cast<std::int32_t>(input.edgy())) + where);
            default:
                set(table.name, column, where, "", false, &input);
        }
    }

  private:
    struct Table {
        std::string name;
        std::vector<std::string> columns;
    };

    const std::vector<Table>& tables() {
        static const std::vector<Table> all = [this] {
            std::vector<Table> found;
            for (const char* const name : {"anchors", "approvals", "groups", "instances", "journal",
                                           "records", "tickets", "total", "vault"}) {
                found.push_back({name, {}});
                sqlite3_stmt* query = nullptr;
                const std::string text = std::string("SELECT * FROM ") + name;
                must(sqlite3_prepare_v2(database_, text.c_str(), -1, &query, nullptr) == SQLITE_OK,
                     "a table is not there");
                for (int i = 0; i < sqlite3_column_count(query); ++i)
                    found.back().columns.emplace_back(sqlite3_column_name(query, i));
                sqlite3_finalize(query);
            }
            return found;
        }();
        return all;
    }
    // A copy of a row gets a number of its own.
    static std::string joined(const Table& table) {
        std::string text = "NULL";
        for (std::size_t i = 1; i < table.columns.size(); ++i)
            text += ", " + table.columns[i];
        return text;
    }
    void run(const std::string& text) {
        sqlite3_exec(database_, text.c_str(), nullptr, nullptr, nullptr);
    }
    // A text, or (with `input`) the value that is there with some of it changed.
    void set(const std::string& table, const std::string& column, const std::string& where,
             const std::string& text, bool as_text, Input* input = nullptr) {
        Bytes value(text.begin(), text.end());
        if (input != nullptr) {
            sqlite3_stmt* query = nullptr;
            const std::string select = "SELECT " + column + " FROM " + table + where;
            sqlite3_prepare_v2(database_, select.c_str(), -1, &query, nullptr);
            if (sqlite3_step(query) == SQLITE_ROW) {
                as_text = sqlite3_column_type(query, 0) == SQLITE_TEXT;
                const auto* data = static_cast<const std::uint8_t*>(sqlite3_column_blob(query, 0));
                value.assign(data, data + sqlite3_column_bytes(query, 0));
            }
            sqlite3_finalize(query);
            value = input->changed(value);
        }
        sqlite3_stmt* update = nullptr;
        const std::string change = "UPDATE " + table + " SET " + column + " = ?" + where;
        sqlite3_prepare_v2(database_, change.c_str(), -1, &update, nullptr);
        const auto size = static_cast<int>(value.size());
        if (as_text) {
            sqlite3_bind_text(update, 1, reinterpret_cast<const char*>(value.data()), size,
                              SQLITE_TRANSIENT);
        } else {
            sqlite3_bind_blob(update, 1, value.data(), size, SQLITE_TRANSIENT);
        }
        sqlite3_step(update);
        sqlite3_finalize(update);
    }

    sqlite3* database_ = nullptr;
};

std::map<std::string, Bytes> damaged(Input& input) {
    auto files = Prepared::get().files;
    Bytes& file = files.at("vault.db");
    if (input.rarely()) {
        file = input.changed(file);
        return files;
    }
    Disk disk(file);
    for (std::size_t i = 1 + input.pick(4); i > 0; --i)
        disk.change(input);
    file = disk.file();
    return files;
}

void judge(vault::Vault& vault) {
    for (const auto& [name, uuid] : Prepared::get().uuids) {
        const auto state = vault.load(uuid);
        if (!state)
            continue;
        must(name != "epsilon" && name != "zeta" && name != "theta", "a TPM that is not here");
        if (name == "gamma") {
            must(state->sequence == 0 && state->blobs.empty(), "a state of a new TPM");
            continue;
        }
        const auto expected = state_of(name);
        must(state->sequence == 1 && state->blobs.size() == 1 &&
                 state->blobs[0].first == vault::BlobKind::permanent &&
                 equal_constant_time(state->blobs[0].second.view(), expected[0].content->view()),
             "another state than was stored");
    }
}

// What people ask when something is wrong; each answer has to reach them.
void ask(World& world, const Fd& client, Input& input) {
    Request request;
    request.set_protocol(wire::protocol_version);
    request.mutable_status();
    must(reply_in(world.exchange(client, World::frame(request, {}))).has_value(), "no status");
    request.mutable_list();
    must(reply_in(world.exchange(client, World::frame(request, {}))).has_value(), "no list");
    request.mutable_group_list();
    must(reply_in(world.exchange(client, World::frame(request, {}))).has_value(), "no groups");
    request.mutable_approvals();
    must(reply_in(world.exchange(client, World::frame(request, {}))).has_value(), "no approvals");
    request.mutable_log();
    must(reply_in(world.exchange(client, World::frame(request, {}))).has_value(), "no journal");
    request.mutable_show()->set_selector(input.flag() ? "alpha" : "tenant");
    must(reply_in(world.exchange(client, World::frame(request, {}))).has_value(), "no instance");
    if (!input.rarely())
        return;
    request.mutable_recover();
    must(reply_in(world.exchange(client, World::frame(request, Prepared::get().recovery_key)))
             .has_value(),
         "no recovery");
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    spdlog::set_level(spdlog::level::off);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input(data, size);
    World world(damaged(input));
    judge(world.vault());
    const Fd client = world.connect();
    ask(world, client, input);
    judge(world.vault());
    // Nobody is to be made anew in the place of what was lost.
    const auto& uuids = Prepared::get().uuids;
    must(!world.vault().create({.name = "again", .tpm = 2, .uuid = uuids.at("alpha")}),
         "a uuid is used twice");
    if (const auto made = world.vault().create({.name = "fresh", .tpm = 2}))
        must(world.vault().store(made->uuid, 0, state_of("fresh")).has_value(), "no first state");
    if (world.reopen())
        judge(world.vault());
    return 0;
}
