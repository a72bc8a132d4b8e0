// An audit log whose records are chained by hashes, so that a change, a hole or a cut tail shows (S-30 to S-35).
//
// One JSON object per line. append() never blocks: a bounded queue feeds a thread that writes and syncs. The chain goes
// on across restarts and files: open() verifies the file in use and the manifest beside it, which keeps the last
// counter and hash; verify_audit() walks all files. A file that has grown to its size, or whose day (UTC) is over, is
// renamed to "<path>.<number of its last record>"; after 90 days it is moved to the folder "archive" beside it, and it
// is never deleted here.
//
// With a key (AuditOptions::key) hashes are HMACs: whoever can write the files cannot make a chain that verifies.
// Records count as kept when the disk has said so: what could not be written and synced as a whole is taken back,
// counted and told. A last record that a crash cut off is put aside on open, and the chain has a record of that.
// Errors: kIo; kResourceInUse naming the process that has the log; kInvalidRequest naming the first broken record.
#pragma once

#include <sys/types.h>

#include <boost/json.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/state_lock.h"

namespace llorch::security {

struct AuditState {
  std::uint64_t count = 0;
  std::string hash = std::string(64, '0');
};

/// When a record is safe (S-33). Where a critical event is among them, all are written and synced at once.
enum class AuditFlush {
  kImmediate,  // written and synced as it comes
  kHybrid,     // written as it comes, which outlives the process; synced with 100 others or after a second
  kBatched     // written and synced with 100 others or after a second
};

struct AuditOptions {
  AuditFlush flush = AuditFlush::kImmediate;
  std::chrono::milliseconds batch_time{1000};
  std::uint64_t file_bytes_max = 100u << 20;
  std::chrono::days archive_after{90};
  std::uint64_t free_bytes_min = 10u << 20;  // of the disk; records that would take it are dropped, and counted
  std::string key = {};                      // 32 bytes; empty: the chain is not keyed
  /// Told when records begin to be lost, and when they are kept again (no error). On the log's thread.
  std::function<void(const std::optional<Error>& problem)> on_state = {};
  std::function<std::chrono::system_clock::time_point()> now = [] { return std::chrono::system_clock::now(); };
  /// For tests: on the log's thread before a batch is written ("write") and before the disk is asked ("keep").
  std::function<void(std::string_view step)> before = {};
};

class AuditLog {
 public:
  [[nodiscard]] static Result<std::unique_ptr<AuditLog>> open(const std::string& path, const std::string& service_id,
                                                              AuditOptions options = {});
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  /// `event` has "event_type". Dropped, and counted, when 1000 are waiting. `done`, where wanted: told once whether the
  /// record is on disk, on the log's thread or, when it is dropped, on the caller's.
  void append(boost::json::object event, std::function<void(bool kept)> done = {});
  [[nodiscard]] std::uint64_t dropped() const;
  /// Waits until everything so far is on disk. Errors: kIo when a record was lost since the last flush.
  [[nodiscard]] Status flush();
  /// False from a failure on until records are kept again.
  [[nodiscard]] bool healthy() const;
  /// How often the disk was asked to keep what was written.
  [[nodiscard]] std::uint64_t syncs() const;

 private:
  struct Entry {
    boost::json::object event;
    std::string time;
    std::function<void(bool)> done;
    std::uint64_t dropped = 0;  // so many are told by this record
  };
  using Batch = std::vector<Entry>;
  AuditLog(int fd, StateLock lock, std::string path, std::string service_id, AuditState state, AuditOptions options);
  void write_loop();
  /// Waits for records and, where they are batched, for their time. False: the end.
  bool wait_for_records(std::unique_lock<std::mutex>& lock);
  /// Writes what waits; `safe`: asks the disk to keep it, and what was written before.
  void write_waiting(std::unique_lock<std::mutex>& lock, bool safe);
  /// Writes a batch, and a record of `untold` lost ones, which is 0 afterwards; a batch that is written moves to
  /// unsafe_. An exception is an error like another: of the batch, nothing counts as kept.
  [[nodiscard]] Status store(Batch& batch, std::uint64_t& untold, bool safe) noexcept;
  void tell(const Batch& kept, const Batch& lost, const Batch& taken_back, const Status& good);
  /// On an error, nothing of the batch is in the file.
  [[nodiscard]] Status write(Batch& batch);
  [[nodiscard]] Status put(std::string_view lines);
  [[nodiscard]] Status rotate_before(std::string_view time);
  /// Syncs what is written; then the manifest may know of it.
  [[nodiscard]] Status keep();
  /// Back to what is known to be on disk.
  void take_back();

  int fd_;
  StateLock lock_;
  std::string path_, service_id_;
  AuditOptions options_;
  std::string day_;          // of the last record in the file
  AuditState state_, safe_;  // the chain's end in the file, and on disk
  off_t size_ = 0, safe_size_ = 0;
  bool tail_unknown_ = false;  // the file may be longer than size_
  bool sync_failed_ = false;
  Batch unsafe_;  // written, not yet synced; of their events only `done` is left
  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Batch queue_;
  std::uint64_t dropped_ = 0, reported_ = 0, flushed_dropped_ = 0, syncs_ = 0;
  std::size_t unsynced_ = 0;                             // records that are written and not yet safe
  std::chrono::steady_clock::time_point since_;          // of the oldest record that is not yet safe
  bool stop_ = false, writing_ = false, hurry_ = false;  // hurry: a critical event, or flush()
  bool failing_ = false;
  std::thread thread_;
};

/// Walks the whole chain, of a keyed log with its key. Returns the number of records.
[[nodiscard]] Result<AuditState> verify_audit(const std::string& path, const std::string& key = {});
/// The key in a file of 64 hexadecimal digits. Errors: those of secret files; kInvalidRequest.
[[nodiscard]] Result<std::string> read_audit_key(const std::string& path);

/// Empty members fit everything.
struct AuditQuery {
  std::string actor, type;
  std::string since, until;  // RFC 3339 in UTC, or a beginning of it such as 2026-11-21; until is excluded
  [[nodiscard]] bool fits(const boost::json::object& record) const;
};
/// Calls with every record that fits, oldest first, of all files. Does not verify. Errors: kIo; kInvalidRequest naming
/// the file and line that is no record.
[[nodiscard]] Status for_each_record(const std::string& path, const AuditQuery& query,
                                     const std::function<void(const boost::json::object&)>& each);

}  // namespace llorch::security
