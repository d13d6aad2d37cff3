#include "database.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace vtpm::vault {

tl::unexpected<Error> fail_sqlite(std::string_view what, int code) {
    const std::string text =
        std::string(what) + ": " + sqlite3_errstr(code) + " (SQLite " + std::to_string(code) + ")";
    switch (code & 0xff) {
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
        case SQLITE_FORMAT:
        case SQLITE_MISMATCH:
        case SQLITE_ERROR:  // our SQL is fixed: it fails if the tables are not what they should be
            return fail(Errc::corrupt, text);
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return fail(Errc::in_use, "another process has the vault: " + text);
        case SQLITE_PERM:
        case SQLITE_AUTH:
            return fail(Errc::permission, text);
        case SQLITE_TOOBIG:
            return fail(Errc::too_large, text);
        // FULL and IOERR. A failed fsync may be repeated here: the frames of a commit that failed
        // are written again by the next one, and a checkpoint that failed is done again in full.
        default:
            return fail(Errc::io, NextAction::retry_later, text);
    }
}

bool Statement::bind(int place, std::int64_t value) {
    return sqlite3_bind_int64(statement_.get(), place, value) == SQLITE_OK;
}

bool Statement::bind(int place, ByteView value) {
    // A null pointer would bind NULL, not an empty blob.
    static constexpr char empty = 0;
    const void* const data = value.empty() ? static_cast<const void*>(&empty) : value.data();
    return sqlite3_bind_blob64(statement_.get(), place, data, value.size(), SQLITE_STATIC) ==
           SQLITE_OK;
}

bool Statement::bind(int place, std::string_view value) {
    return sqlite3_bind_text64(statement_.get(), place, value.data(), value.size(), SQLITE_STATIC,
                               SQLITE_UTF8) == SQLITE_OK;
}

bool Statement::bind(int place, const std::optional<ByteView>& value) {
    if (value)
        return bind(place, *value);
    return sqlite3_bind_null(statement_.get(), place) == SQLITE_OK;
}

bool Statement::bind(int place, const std::optional<std::string_view>& value) {
    if (value)
        return bind(place, *value);
    return sqlite3_bind_null(statement_.get(), place) == SQLITE_OK;
}

Result<bool> Statement::next() {
    switch (const int code = sqlite3_step(statement_.get()); code) {
        case SQLITE_ROW:
            return true;
        case SQLITE_DONE:
            return false;
        default:
            reset();
            return fail_sqlite("vault.db", code);
    }
}

Result<void> Statement::finish() {
    const auto row = next();
    reset();
    VTPM_CHECK(row);
    return {};
}

void Statement::reset() {
    sqlite3_reset(statement_.get());
    sqlite3_clear_bindings(statement_.get());
}

std::optional<std::int64_t> Statement::integer(int column) const {
    if (sqlite3_column_type(statement_.get(), column) != SQLITE_INTEGER)
        return std::nullopt;
    return sqlite3_column_int64(statement_.get(), column);
}

std::optional<ByteView> Statement::blob(int column) const {
    if (sqlite3_column_type(statement_.get(), column) != SQLITE_BLOB)
        return std::nullopt;
    const auto* const data =
        static_cast<const std::uint8_t*>(sqlite3_column_blob(statement_.get(), column));
    const int size = sqlite3_column_bytes(statement_.get(), column);
    if (data == nullptr && size > 0)
        return std::nullopt;  // out of memory
    return ByteView(data, static_cast<std::size_t>(size));
}

std::optional<std::string> Statement::text(int column) const {
    if (sqlite3_column_type(statement_.get(), column) != SQLITE_TEXT)
        return std::nullopt;
    const auto* const data =
        reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
    if (data == nullptr)
        return std::nullopt;
    return std::string(data,
                       static_cast<std::size_t>(sqlite3_column_bytes(statement_.get(), column)));
}

bool Statement::is_null(int column) const {
    return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

Result<std::unique_ptr<Database>> Database::open(const std::filesystem::path& path) {
    std::unique_ptr<Database> database(new Database);
    sqlite3* raw = nullptr;
    const int code =
        sqlite3_open_v2(path.c_str(), &raw,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW |
                            SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_URI,  // for copy()
                        nullptr);
    database->database_.reset(raw);
    if (code != SQLITE_OK)
        return fail_sqlite(path.string(), code);
    const auto directory = std::filesystem::absolute(path).parent_path();
    database->directory_ = Fd(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!database->directory_.valid())
        return fail_errno(directory.string(), errno);
    VTPM_CHECK(database->configure());
    return database;
}

// SQLite removes the log of a database that is closed, and what lay in it would stay in free
// blocks.
Database::~Database() {
    if (database_ && logs_ && !erase_log()) {
        int keep = 1;
        sqlite3_file_control(database_.get(), "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
    }
}

Result<void> Database::configure() {
    // The file may have been written by somebody else: no code from the schema, no tricks with it.
    for (const auto& [option, value] : {std::pair{SQLITE_DBCONFIG_DEFENSIVE, 1},
                                        {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
                                        {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
                                        {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
                                        {SQLITE_DBCONFIG_DQS_DDL, 0},
                                        {SQLITE_DBCONFIG_DQS_DML, 0}}) {
        int now = 0;
        if (sqlite3_db_config(database_.get(), option, value, &now) != SQLITE_OK || now != value) {
            return fail(Errc::unsupported, "this SQLite cannot be hardened");
        }
    }
    for (const char* const sql : {
             "PRAGMA locking_mode = EXCLUSIVE",  // first: then WAL needs no shared memory file
             "PRAGMA cell_size_check = ON",      // overlapping cells are noticed when read
             "PRAGMA secure_delete = ON",        // a deleted key is overwritten, not only unlinked
             "PRAGMA foreign_keys = ON",         //
             "PRAGMA temp_store = MEMORY",       // nothing is written outside our directory
             "PRAGMA mmap_size = 0",             // a read error is an error, not a signal
             "PRAGMA synchronous = FULL",        // in WAL mode: fsync at each commit
         }) {
        VTPM_CHECK(run(sql));
    }
    VTPM_CHECK(run("BEGIN EXCLUSIVE"));
    VTPM_CHECK(run("COMMIT"));
    VTPM_TRY(begin_, prepare("BEGIN IMMEDIATE"));
    VTPM_TRY(commit_, prepare("COMMIT"));
    return {};
}

Result<void> Database::use_log() {
    VTPM_CHECK(run("PRAGMA journal_mode = WAL"));
    VTPM_CHECK(run("PRAGMA wal_autocheckpoint = 0"));  // checkpoints are our own work
    sqlite3_wal_hook(
        database_.get(),
        [](void* self, sqlite3*, const char*, int pages) {
            static_cast<Database*>(self)->log_pages_ = pages;
            return SQLITE_OK;
        },
        this);
    logs_ = true;
    return {};
}

Result<Statement> Database::prepare(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    const int code = sqlite3_prepare_v3(database_.get(), sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT,
                                        &statement, nullptr);
    if (code != SQLITE_OK)
        return fail_sqlite("vault.db", code);
    return Statement(statement);
}

Result<void> Database::run(const std::string& sql) {
    const int code = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
    if (code != SQLITE_OK)
        return fail_sqlite("vault.db", code);
    return {};
}

Result<void> Database::check() {
    VTPM_TRY(Statement statement, prepare("PRAGMA quick_check(1)"));
    VTPM_CHECK(statement.start());
    VTPM_TRY(const bool row, statement.next());
    if (!row || statement.text(0) != "ok") {
        return fail(Errc::corrupt, "the structure of vault.db is damaged: " +
                                       statement.text(0).value_or("no answer").substr(0, 120));
    }
    return {};
}

// Where the kernel does not say, the write itself or its sync will.
bool Database::read_only() const {
    struct statvfs found {};
    return ::fstatvfs(directory_.get(), &found) == 0 && (found.f_flag & ST_RDONLY) != 0;
}

Result<void> Database::check_writable() const {
    if (read_only())
        return fail(Errc::io, NextAction::retry_later, "the file system of vault.db is read-only");
    return {};
}

// It became read-only between begin and sync. SQLite takes for durable what may not be, so what it
// and we have in memory is good for nothing now: the next start reads what is on the disk. Nobody
// was told yet that anything is durable.
void Database::end_if_not_synced() const {
    if (!read_only())
        return;
    std::fputs("vault.db: its file system became read-only during a commit; starting anew\n",
               stderr);
    std::abort();
}

Result<void> Database::checkpoint(int mode) {
    VTPM_CHECK(check_writable());
    int pages = 0;
    int copied = 0;
    const int code = sqlite3_wal_checkpoint_v2(database_.get(), nullptr, mode, &pages, &copied);
    if (code != SQLITE_OK)
        return fail_sqlite("checkpoint of vault.db", code);
    if (pages != copied)
        return fail(Errc::io, NextAction::retry_later, "a part of vault.db-wal is still in use");
    end_if_not_synced();
    log_pages_ = 0;
    return {};
}

Result<void> Database::checkpoint() {
    return checkpoint(SQLITE_CHECKPOINT_PASSIVE);
}

Result<LogFile> Database::log_file() {
    const char* const database = sqlite3_db_filename(database_.get(), "main");
    return LogFile::open(sqlite3_filename_wal(database));
}

Result<void> Database::reserve_log() {
    VTPM_CHECK(check_in_place());
    VTPM_TRY(const LogFile log, log_file());
    std::int64_t size = log.size();
    if (size > log_reserve) {
        VTPM_CHECK(erase_log());  // the blocks that are cut off are others' then
        VTPM_CHECK(checkpoint(SQLITE_CHECKPOINT_TRUNCATE));
        size = 0;
    }
    if (size < log_reserve)
        VTPM_CHECK(log.fill(size, log_reserve));
    log_reserved_ = true;
    return {};
}

// The name of the log may be another file's by now, as when a copy of the vault was put back.
Result<void> Database::check_in_place() {
    int moved = 0;
    const int code = sqlite3_file_control(database_.get(), "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (code != SQLITE_OK || moved != 0)
        return fail(Errc::io, NextAction::ask_operator,
                    "vault.db was replaced or removed while vtpmmgrd had it open");
    return {};
}

Result<void> Database::erase_log() {
    VTPM_CHECK(check_in_place());
    VTPM_CHECK(checkpoint(SQLITE_CHECKPOINT_RESTART));
    VTPM_TRY(const LogFile log, log_file());
    std::int64_t end = log.size();
    if (zeros_are_synced_) {
        VTPM_TRY(end, log.used());
    }
    zeros_are_synced_ = false;
    // All of it is in the database. Should the power fail now, a part of the log that is read again
    // would put older pages into their places: so first of all its head must go.
    constexpr std::int64_t head = 32;
    VTPM_CHECK(log.fill(0, std::min(end, head)));
    VTPM_CHECK(log.fill(0, end));
    end_if_not_synced();
    zeros_are_synced_ = true;
    return {};
}

// By way of a database in memory: a file that is removed leaves its blocks behind, with keys that
// may be deleted later.
Result<Fd> Database::copy() {
    static constexpr const char* name = "file:/xen-vtpm-copy?vfs=memdb";
    sqlite3* raw = nullptr;
    const int opened =
        sqlite3_open_v2(name, &raw,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI |
                            SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                        nullptr);
    std::unique_ptr<sqlite3, Close> memory(raw);
    if (opened != SQLITE_OK)
        return fail_sqlite("a copy of vault.db", opened);
    VTPM_TRY(Statement vacuum, prepare("VACUUM INTO ?"));
    VTPM_CHECK(vacuum.run(std::string_view(name)));
    sqlite3_int64 size = 0;
    const std::unique_ptr<unsigned char, decltype(&sqlite3_free)> content(
        sqlite3_serialize(raw, "main", &size, 0), &sqlite3_free);
    if (!content)
        return fail(Errc::io, NextAction::retry_later, "no memory for a copy of vault.db");
    memory.reset();  // two copies at a time are enough
    Fd copy(::memfd_create("vault.db", MFD_CLOEXEC));
    if (!copy.valid() || ::fchmod(copy.get(), 0600) != 0)
        return fail_errno("a copy of vault.db", errno);
    VTPM_CHECK(write_all(copy.get(), {content.get(), static_cast<std::size_t>(size)}));
    if (::lseek(copy.get(), 0, SEEK_SET) != 0)
        return fail_errno("a copy of vault.db", errno);
    return copy;
}

Result<Transaction> Transaction::begin(Database& database) {
    VTPM_CHECK(database.check_writable());
    VTPM_CHECK(database.begin_->run());
    return Transaction(database);
}

Transaction::Transaction(Transaction&& other) noexcept
    : database_(std::exchange(other.database_, nullptr)) {}

Transaction::~Transaction() {
    // SQLite has rolled back by itself after some errors (sqlite3_get_autocommit(3)).
    if (database_ != nullptr && database_->in_transaction())
        (void)database_->run("ROLLBACK");
}

Result<void> Transaction::commit() {
    VTPM_CHECK(database_->commit_->run());
    database_->end_if_not_synced();
    database_ = nullptr;
    return {};
}

}  // namespace vtpm::vault
