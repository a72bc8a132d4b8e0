// The prefix cache below the device: in the host's memory what had to leave the device, on disk what is worth finding
// after a restart.
//
// Contents go down in two ways: store() when one is whole and may be asked for again (to the disk, by a thread of its
// own), leave() when the device needs its place (to memory). get() checks every content by its hash. What cannot be
// kept (a full disk, a writer that is behind, no memory) is counted and computed again one day: nothing here fails a
// request. Threads: the engine's; counts() from any.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <thread>

#include "cache/content.h"
#include "cache/disk_level.h"

namespace llorch {

class CacheLevels {
 public:
  struct Options {
    std::int64_t memory_bytes = 0;  // 0: no level in memory
    DiskLevel::Options disk;        // without a folder: no level on disk
  };
  /// Since the start; bytes: now.
  struct Counts {
    std::int64_t memory_hits = 0, disk_hits = 0;
    std::int64_t written = 0;  // files
    std::int64_t skipped = 0;  // contents that could not be kept
    std::int64_t damaged = 0;  // that were not what they were when they were put there
    std::int64_t memory_bytes = 0, disk_bytes = 0;
  };

  /// Errors: kIo of the folder.
  [[nodiscard]] static Result<std::unique_ptr<CacheLevels>> open(Options options);
  /// Writes for a moment what is left to write.
  ~CacheLevels();

  [[nodiscard]] bool has(const ContentKey& key);
  /// It is about to be asked for: in memory it leaves last.
  void touch(const ContentKey& key);
  /// Fills `to`. False: there is none any more, or it was damaged; it is gone then.
  [[nodiscard]] bool get(const ContentKey& key, std::span<std::byte> to);
  /// Whether store() and leave() would keep it anywhere: to have it copied for nothing is dear. For a while not on a
  /// disk that has failed, nor while too much waits for it.
  [[nodiscard]] bool wants_to_store(const ContentKey& key);
  [[nodiscard]] bool wants_what_leaves(const ContentKey& key);
  void store(const ContentKey& key, Content content);
  void leave(const ContentKey& key, Content content);

  [[nodiscard]] Counts counts() const;
  /// Waits until all that was stored is on disk, for tests and the end.
  void flush();

 private:
  struct InMemory {
    ContentKey key;
    std::shared_ptr<const Content> content;
    PageHash hash;
  };
  using Order = std::list<InMemory>;

  explicit CacheLevels(Options options, std::unique_ptr<DiskLevel> disk);
  void write_all(const std::stop_token& stop);
  void enqueue(const ContentKey& key, std::shared_ptr<const Content> content);
  void drop(Order::iterator of);

  Options options_;
  std::unique_ptr<DiskLevel> disk_;
  Order in_memory_;  // least recently used first
  std::map<ContentKey, Order::iterator> by_key_;
  std::atomic<std::int64_t> memory_hits_{0}, disk_hits_{0}, written_{0}, skipped_{0}, damaged_{0}, memory_bytes_{0};

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable_any changed_;
  std::list<ContentKey> queue_;  // in this order
  std::map<ContentKey, std::shared_ptr<const Content>> unwritten_;
  std::int64_t unwritten_bytes_ = 0;
  std::chrono::steady_clock::time_point failed_until_{};  // of the disk
  std::jthread writer_;                                   // last: it ends before what it reads
};

}  // namespace llorch
