// For sqlite_store.cc only: a store of keys with revisions in a file of SQLite, as plain calls.
//
// Every change of a key is a row of `history`; how a key is at a revision is its newest row up to then. compact() drops
// rows that are older than that, and it runs by itself so that about the last kRevisionsKept revisions remain. Leases
// are rows, too, but not when they end: a store that is opened gives each its whole time once more, since nobody could
// renew one while it was closed, and since BootClock starts anew with the machine. Each transaction is on the disk
// before it is answered: a revision must not be given twice, whatever happens to the machine.
// Threads: one at a time; blocks. Errors: those of CoordStore; kUnavailable with SQLite's words.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/state_lock.h"
#include "coord/boot_clock.h"
#include "coord/coord_store.h"
#include "store/database.h"

namespace llorch::coord {

class SqliteEngine {
 public:
  static constexpr Revision kRevisionsKept = 10'000, kCompactedAtOnce = 1000;

  /// Opens or makes the file, and locks it against other processes. Errors: kIo; kResourceInUse, naming who has it.
  [[nodiscard]] static Result<std::unique_ptr<SqliteEngine>> open(const std::string& path);

  [[nodiscard]] Outcome<Page> range(const Query& query);
  struct Change {
    Revision revision = 0;
    std::vector<Event> events;  // of that revision; empty: nothing has changed
  };
  [[nodiscard]] Outcome<Change> commit(const Transaction& transaction);
  [[nodiscard]] Outcome<LeaseGrant> grant(std::chrono::seconds ttl);
  [[nodiscard]] Outcome<std::chrono::seconds> keep_alive(LeaseId lease);
  [[nodiscard]] Outcome<Change> revoke(LeaseId lease);
  [[nodiscard]] Outcome<void> compact(Revision revision);
  /// All that happened to the query's keys from `query.from` on (0: nothing).
  [[nodiscard]] Outcome<std::vector<Event>> history(const WatchQuery& query);

  /// A lease whose time is over; 0: none.
  [[nodiscard]] LeaseId overdue() const;
  /// When the next one is over; the largest time where there are none.
  [[nodiscard]] BootClock::time_point next_overdue() const;
  [[nodiscard]] Revision revision() const { return revision_; }

 private:
  struct Lease {
    std::chrono::seconds ttl;
    BootClock::time_point end;
  };
  SqliteEngine(StateLock lock, std::unique_ptr<store::Database> database, std::string path)
      : lock_(std::move(lock)), database_(std::move(database)), path_(std::move(path)) {}
  [[nodiscard]] Status load();
  [[nodiscard]] Failure broken(const Error& error) const;
  [[nodiscard]] Outcome<std::vector<store::Row>> run(std::string_view sql,
                                                     const std::vector<store::Value>& values = {});
  [[nodiscard]] Outcome<std::optional<Entry>> current(const std::string& key);
  [[nodiscard]] Outcome<Change> write(const Transaction& transaction);
  [[nodiscard]] Outcome<void> save(std::string_view name, std::int64_t value);
  /// Runs `steps` as one transaction of the database.
  [[nodiscard]] Outcome<Change> atomically(const std::function<Outcome<Change>()>& steps);
  /// When it is due. If it fails, the commit that it follows has happened all the same: the next one tries again.
  void compact_by_itself();

  StateLock lock_;
  std::unique_ptr<store::Database> database_;
  std::string path_;
  Revision revision_ = 1, compacted_ = 0;
  LeaseId last_lease_ = 0;
  std::map<LeaseId, Lease> leases_;
};

}  // namespace llorch::coord
