// Database, Statement, Transaction: SQLite as the vault uses it, with errors as values.
//
// Private to the vault room; one thread. A statement must not outlive its database. SQLite sees
// ciphertext, wrapped keys and names only.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "log_file.h"
#include "vtpm/base/bytes.h"
#include "vtpm/base/fd.h"
#include "vtpm/base/result.h"

namespace vtpm::vault {

// Values to bind are integers, texts and blobs; std::nullopt is NULL. Views must stay valid until
// the statement has run.
class Statement {
  public:
    explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

    // Binds and runs a statement that gives no rows.
    template <typename... Values>
    Result<void> run(const Values&... values) {
        VTPM_CHECK(start(values...));
        return finish();
    }

    // Binds; rows come by next().
    template <typename... Values>
    Result<void> start(const Values&... values) {
        reset();
        int place = 0;
        const bool bound = (bind(++place, values) && ...);
        if (!bound)
            return fail(Errc::io, "SQLite cannot take a value");
        return {};
    }
    Result<bool> next();

    // A column of the current row; none if it is of another type. Bytes are valid until next().
    std::optional<std::int64_t> integer(int column) const;
    std::optional<ByteView> blob(int column) const;
    std::optional<std::string> text(int column) const;
    bool is_null(int column) const;

    void reset();

  private:
    struct Finalize {
        void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
    };

    bool bind(int place, std::int64_t value);
    bool bind(int place, ByteView value);
    bool bind(int place, std::string_view value);
    bool bind(int place, const std::optional<ByteView>& value);
    bool bind(int place, const std::optional<std::string_view>& value);
    Result<void> finish();

    std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

class Database {
  public:
    // Of an existing file. Takes its lock for good: Errc::in_use if another process has it. Writes
    // nothing, so that a file that is not ours stays as it is.
    static Result<std::unique_ptr<Database>> open(const std::filesystem::path& path);
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;
    ~Database();

    // From here on commits go to a write-ahead log.
    Result<void> use_log();

    Result<Statement> prepare(const std::string& sql);
    Result<void> run(const std::string& sql);

    // Whether the structure of the file is sound; reads all of it.
    Result<void> check();

    // Copies the log into the database; the next commit begins the log anew, in the same place.
    Result<void> checkpoint();
    // Pages in the write-ahead log after the last commit.
    int log_pages() const { return log_pages_; }

    // A commit to a log that grows makes the file system commit its own journal, too, which takes
    // longer than the commit itself. So the log is a file of this size, written once and then
    // written over; only what does not fit makes it grow.
    static constexpr std::int64_t log_reserve = 4L * 1024 * 1024;
    // When to checkpoint, so that there is room for the largest store.
    static constexpr int worth_a_checkpoint = 512;
    // Makes the log as long as that, or as short. Nothing of it is lost.
    Result<void> reserve_log();
    bool log_reserved() const { return log_reserved_; }
    // checkpoint(), and then nothing that was ever in the log is there any more.
    Result<void> erase_log();

    // A whole copy as of now, without free pages and without a log, in memory.
    Result<Fd> copy();

    bool in_transaction() const { return sqlite3_get_autocommit(database_.get()) == 0; }

  private:
    struct Close {
        void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
    };
    Database() = default;
    Result<void> configure();
    Result<void> checkpoint(int mode);
    // ext4 can become read-only with files open for writing (an emergency remount, sysrq-u): it
    // then still takes bytes that go over others, but fsync answers 0 and writes nothing.
    bool read_only() const;
    Result<void> check_writable() const;
    void end_if_not_synced() const;
    Result<LogFile> log_file();
    Result<void> check_in_place();

    friend class Transaction;
    Fd directory_;  // not the file: a POSIX lock goes with any descriptor of it that is closed
    std::unique_ptr<sqlite3, Close> database_;
    std::optional<Statement> begin_;
    std::optional<Statement> commit_;
    int log_pages_ = 0;
    bool log_reserved_ = false;
    // Whether what reads as zeros in the log is so on the disk, too: not after zeros whose sync
    // failed, which another process may have seen.
    bool zeros_are_synced_ = false;
    bool logs_ = false;
};

// Rolls back unless committed. None begins while the file system is read-only.
class Transaction {
  public:
    static Result<Transaction> begin(Database& database);
    Transaction(Transaction&& other) noexcept;
    Transaction& operator=(Transaction&&) = delete;
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    ~Transaction();

    Result<void> commit();

  private:
    explicit Transaction(Database& database) : database_(&database) {}
    Database* database_;
};

tl::unexpected<Error> fail_sqlite(std::string_view what, int code);

}  // namespace vtpm::vault
