// An audit log whose records are chained by hashes, so that a change, a hole or a cut tail shows (S-30 to S-35).
//
// One JSON object per line. append() never blocks: a bounded queue feeds a thread that writes and syncs. The chain goes
// on across restarts: open() verifies the last record and the manifest beside the file, which keeps the last counter
// and hash. Errors: kIo; kInvalidRequest naming the first broken record.
#pragma once

#include <boost/json.hpp>
#include <condition_variable>
#include <cstdint>
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

class AuditLog {
 public:
  [[nodiscard]] static Result<std::unique_ptr<AuditLog>> open(const std::string& path, const std::string& service_id);
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  /// `event` has "event_type". Dropped, and counted, when 1000 are waiting.
  void append(boost::json::object event);
  [[nodiscard]] std::uint64_t dropped() const;
  /// Waits until everything so far is on disk.
  void flush();

 private:
  AuditLog(int fd, std::string manifest, std::string service_id, AuditState state);
  void write_loop();

  int fd_;
  std::string manifest_, service_id_;
  AuditState state_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::vector<std::pair<boost::json::object, std::string>> queue_;  // event and time
  std::uint64_t dropped_ = 0, reported_ = 0;
  bool stop_ = false, writing_ = false;
  std::thread thread_;
};

/// Walks the whole chain. Returns the number of records.
[[nodiscard]] Result<AuditState> verify_audit(const std::string& path);

}  // namespace llorch::security
