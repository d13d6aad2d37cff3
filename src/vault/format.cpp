#include "format.h"

#include <string>

namespace vtpm::vault {
namespace {

struct Table {
    std::string_view name;
    std::string_view sql;
};

// The oldest format that is brought up to date, and what each one since has beside the one before.
constexpr std::int64_t oldest_format = 5;
struct Addition {
    std::int64_t format;
    std::string_view table;
    std::string_view column = {};  // empty: the table as a whole
};
constexpr std::array additions{
    Addition{6, "instances", "past BLOB"},  Addition{6, "snapshots"},
    Addition{7, "approvals", "actor TEXT"}, Addition{7, "journal", "kin INTEGER"},
    Addition{7, "journal", "other BLOB"},
};

// In order of name, as check_format() reads them. There are no NOT NULL and CHECK constraints and
// no index but for the primary keys: every value is checked by our own code and covered by a MAC,
// and one damaged row must stay the trouble of one instance (quick_check would refuse the whole
// file).
constexpr std::array tables{
    // Slots 0 and 1, see anchor.h.
    Table{"anchors",
          "CREATE TABLE anchors(slot INTEGER PRIMARY KEY, epoch INTEGER, previous BLOB,"
          " state BLOB, tokens INTEGER, counted_at INTEGER, chip_writes INTEGER,"
          " recoveries INTEGER, committed INTEGER, salt BLOB, mac BLOB)"},
    // Signed statements, see approvals.h. Not covered by any MAC: they are kept while the vault is
    // locked, too; then `actor` says who has brought them, until the journal does.
    Table{"approvals",
          "CREATE TABLE approvals(id INTEGER PRIMARY KEY, group_uuid BLOB, made INTEGER,"
          " counter_limit INTEGER, pcrs BLOB, signature BLOB, actor TEXT)"},
    // One row a group of instances, deleted ones too; `mac` covers the row.
    Table{"groups",
          "CREATE TABLE groups(id INTEGER PRIMARY KEY, uuid BLOB, name TEXT, deleted INTEGER,"
          " generation INTEGER, config_sequence INTEGER, sealed_public BLOB, sealed_private BLOB,"
          " key_check BLOB, approver BLOB, pcrs BLOB, escrow BLOB, mac BLOB)"},
    // One row an instance, deleted ones too; `mac` covers the row, bytes_K and digest_K are those
    // of kind K.
    Table{"instances",
          "CREATE TABLE instances(id INTEGER PRIMARY KEY, uuid BLOB, name TEXT, tpm INTEGER,"
          " sync INTEGER, group_id INTEGER REFERENCES groups(id), group_uuid BLOB, state INTEGER,"
          " generation INTEGER, sequence INTEGER, created INTEGER, committed INTEGER,"
          " bytes_1 INTEGER, bytes_2 INTEGER, bytes_3 INTEGER, wrapped_key BLOB, last_store BLOB,"
          " digest_1 BLOB, digest_2 BLOB, digest_3 BLOB, move BLOB, policy BLOB, mac BLOB,"
          " past BLOB)"},
    // Who did what to what and when, see journal.h; `mac` covers the line and those before it.
    // `kin` is how many lines of its kind there were then, negative for guests' ones.
    Table{"journal",
          "CREATE TABLE journal(id INTEGER PRIMARY KEY, at INTEGER, actor TEXT, action TEXT,"
          " subject TEXT, previous BLOB, mac BLOB, kin INTEGER, other BLOB)"},
    // id is 4 * instances.id + kind; content is what record_cipher.h says.
    Table{"records",
          "CREATE TABLE records(id INTEGER PRIMARY KEY, instance_id INTEGER"
          " REFERENCES instances(id), generation INTEGER, sequence INTEGER, anchor BLOB,"
          " content BLOB)"},
    // id is 16 * instances.id + place (past.h); content is what record_cipher.h says.
    Table{"snapshots",
          "CREATE TABLE snapshots(id INTEGER PRIMARY KEY, instance_id INTEGER"
          " REFERENCES instances(id), generation INTEGER, sequence INTEGER, anchor BLOB,"
          " content BLOB)"},
    // See ticket_table.h; covered by the MAC of `total`.
    Table{"tickets",
          "CREATE TABLE tickets(id INTEGER PRIMARY KEY, nonce BLOB, group_uuid BLOB,"
          " made INTEGER)"},
    // One row: a MAC over the set of all other rows, so that none is missing or older, and where
    // that state stands: so many writes after an anchor. `journal` is the MAC of its last line.
    Table{"total",
          "CREATE TABLE total(id INTEGER PRIMARY KEY, anchor BLOB, pending BLOB, writes INTEGER,"
          " journal BLOB, mac BLOB)"},
    // One row: what is needed to open the rest.
    Table{"vault",
          "CREATE TABLE vault(id INTEGER PRIMARY KEY, manager BLOB, created INTEGER,"
          " chip_public BLOB, chip_name BLOB, chip_manufacturer TEXT, chip_firmware TEXT,"
          " root_public BLOB, root_private BLOB, default_group BLOB,"
          " recovery_point BLOB, escrow BLOB, cell_index INTEGER, cell_auth BLOB, anchor_key BLOB,"
          " counter_index INTEGER, latch_index INTEGER, latch_value INTEGER, mac BLOB)"},
};

Result<std::int64_t> pragma(Database& database, const std::string& name) {
    VTPM_TRY(Statement statement, database.prepare("PRAGMA " + name));
    VTPM_CHECK(statement.start());
    VTPM_TRY(const bool row, statement.next());
    if (!row)
        return fail(Errc::corrupt, "the database does not tell its " + name);
    return statement.integer(0).value_or(0);
}

// As that format had it; empty: it had none.
std::string sql_of(const Table& table, std::int64_t format) {
    std::string sql(table.sql);
    for (const auto& later : additions) {
        if (later.format <= format || later.table != table.name)
            continue;
        if (later.column.empty())
            return {};
        const std::string column = ", " + std::string(later.column);
        sql.erase(sql.find(column), column.size());
    }
    return sql;
}

Result<void> add(Database& database, const Addition& addition) {
    if (!addition.column.empty()) {
        return database.run("ALTER TABLE " + std::string(addition.table) + " ADD COLUMN " +
                            std::string(addition.column));
    }
    for (const auto& table : tables) {
        if (table.name == addition.table)
            VTPM_CHECK(database.run(sql_of(table, addition.format)));
    }
    return {};
}

}  // namespace

Result<void> create_tables(Database& database) {
    for (const auto& table : tables)
        VTPM_CHECK(database.run(std::string(table.sql)));
    VTPM_CHECK(database.run("PRAGMA application_id = " + std::to_string(application_id)));
    return database.run("PRAGMA user_version = " + std::to_string(format_version));
}

Result<void> check_format(Database& database) {
    VTPM_TRY(const auto id, pragma(database, "application_id"));
    if (id != application_id)
        return fail(Errc::corrupt, "vault.db is not a vault of xen-vtpm");
    VTPM_TRY(const auto version, pragma(database, "user_version"));
    if (version < oldest_format || version > format_version) {
        return fail(Errc::unsupported, "vault.db has format " + std::to_string(version) +
                                           ", and this program knows the formats " +
                                           std::to_string(oldest_format) + " to " +
                                           std::to_string(format_version));
    }
    VTPM_TRY(Statement statement,
             database.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name"));
    VTPM_CHECK(statement.start());
    for (const auto& table : tables) {
        const std::string sql = sql_of(table, version);
        if (sql.empty())
            continue;
        VTPM_TRY(const bool row, statement.next());
        if (!row || statement.text(0) != table.name || statement.text(1) != sql) {
            return fail(Errc::corrupt, "the tables of vault.db are not those of its format");
        }
    }
    VTPM_TRY(const bool more, statement.next());
    if (more)
        return fail(Errc::corrupt, "vault.db has a table that is not of its format");
    return {};
}

Result<void> bring_up_to_date(Database& database) {
    VTPM_TRY(const auto version, pragma(database, "user_version"));
    if (version == format_version)
        return {};
    VTPM_TRY(Transaction transaction, Transaction::begin(database));
    for (const auto& addition : additions) {
        if (addition.format > version)
            VTPM_CHECK(add(database, addition));
    }
    VTPM_CHECK(database.run("PRAGMA user_version = " + std::to_string(format_version)));
    VTPM_CHECK(check_format(database));
    return transaction.commit();
}

}  // namespace vtpm::vault
