// An audit log whose records are chained by hashes, so that a change, a hole or a cut tail shows (S-30 to S-35).
//
// One JSON object per line. append() never blocks: a bounded queue feeds a thread that writes and syncs. The chain goes
// on across restarts and files: open() verifies the file in use and the manifest beside it, which keeps the last
// counter and hash; verify_audit() walks all files. A file that has grown to its size, or whose day (UTC) is over, is
// renamed to "<path>.<number of its last record>"; after 90 days it is moved to the folder "archive" beside it, and it
// is never deleted here. Errors: kIo; kInvalidRequest naming the first broken record.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"

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
  std::function<std::chrono::system_clock::time_point()> now = [] { return std::chrono::system_clock::now(); };
};

class AuditLog {
 public:
  [[nodiscard]] static Result<std::unique_ptr<AuditLog>> open(const std::string& path, const std::string& service_id,
                                                              AuditOptions options = {});
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  /// `event` has "event_type". Dropped, and counted, when 1000 are waiting.
  void append(boost::json::object event);
  [[nodiscard]] std::uint64_t dropped() const;
  /// Waits until everything so far is on disk.
  void flush();
  /// How often the disk was asked to keep what was written.
  [[nodiscard]] std::uint64_t syncs() const;

 private:
  AuditLog(int fd, std::string path, std::string service_id, AuditState state, AuditOptions options);
  void write_loop();
  using Batch = std::vector<std::pair<boost::json::object, std::string>>;  // event and time
  /// Waits for records and, where they are batched, for their time. False: the end.
  bool wait_for_records(std::unique_lock<std::mutex>& lock);
  /// Writes what waits; `safe`: asks the disk to keep it, and what was written before.
  void write_waiting(std::unique_lock<std::mutex>& lock, bool safe);
  /// False when the disk is full: the batch is lost.
  [[nodiscard]] bool write(Batch batch);
  void rotate_before(std::string_view time);
  void keep();

  int fd_;
  std::string path_, service_id_;
  AuditOptions options_;
  std::string day_;  // of the last record in the file
  AuditState state_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  Batch queue_;
  std::uint64_t dropped_ = 0, reported_ = 0, syncs_ = 0;
  std::size_t unsynced_ = 0;                             // records that are written and not yet safe
  std::chrono::steady_clock::time_point since_;          // of the oldest record that is not yet safe
  bool stop_ = false, writing_ = false, hurry_ = false;  // hurry: a critical event, or flush()
  std::thread thread_;
};

/// Walks the whole chain. Returns the number of records.
[[nodiscard]] Result<AuditState> verify_audit(const std::string& path);

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
