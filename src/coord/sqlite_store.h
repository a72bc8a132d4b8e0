// CoordStore in a file of SQLite: what one queen has, without any other service.
//
// One process has the file, and a lock keeps others out. Several processes on one machine could share it, but SQLite
// tells nobody of changes, so that watches would poll, and leases would need a clock that all agree on: where several
// queens are wanted, etcd is there for that. Within the process any number of stores, on loops of their own, share one
// file. Everything of the database happens on one thread; a lease that nobody renews ends there, whatever loops do.
// Over a restart keys, revisions and leases stay; each lease has its whole time once more.
#pragma once

#include <memory>
#include <string>

#include "coord/coord_store.h"

namespace llorch::coord {

/// The open file with its thread. Ends with the last store that uses it. Threads: any.
class SqliteFile {
 public:
  /// Blocks. Errors: kIo; kResourceInUse naming the process that has it.
  [[nodiscard]] static Result<std::shared_ptr<SqliteFile>> open(const std::string& path);
  /// Waits for what was begun.
  ~SqliteFile();
  SqliteFile(const SqliteFile&) = delete;
  SqliteFile& operator=(const SqliteFile&) = delete;

 private:
  friend class SqliteStore;
  struct State;
  explicit SqliteFile(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

/// `file` must not be destroyed on the loop while the disk hangs: keep it as long as the program runs.
[[nodiscard]] std::unique_ptr<CoordStore> make_sqlite_store(net::EventLoop& loop, std::shared_ptr<SqliteFile> file);

}  // namespace llorch::coord
