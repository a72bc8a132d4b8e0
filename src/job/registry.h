// Jobs: created by one call, observed by another, and gone when nobody can want them any more (J-10 to J-21).
//
// One registry serves worker, hive and queen. It knows no socket and no clock: time is an argument, a reader is an
// interface. Threads: all calls on one thread (the event loop's). A job's log keeps its events in order under
// sequence numbers from 1; a reader may come late, leave, and come back after any number.
#pragma once

#include <any>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace llorch::job {

using Time = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

enum class State { kQueued, kRunning, kCompleted, kFailed, kCancelled };
[[nodiscard]] std::string_view name(State state);

struct Event {
  std::uint64_t seq = 0;
  std::string type;
  std::string json;  // one line
};

struct LogLimits {
  std::size_t events_max = 65'536;
  std::size_t bytes_max = 16u << 20;
};

/// Events under sequence numbers, bounded. When it is full, what has been delivered goes first; then events of little
/// weight (narration, progress, metrics) are refused; for all others append() still takes them and full() says that the
/// producer must pause.
class EventLog {
 public:
  explicit EventLog(LogLimits limits, std::uint64_t first_seq = 1) : limits_(limits), first_seq_(first_seq) {}
  /// The number that the next event will have.
  [[nodiscard]] std::uint64_t next_seq() const { return first_seq_ + events_.size(); }
  /// False: dropped.
  bool append(std::string type, std::string json);
  [[nodiscard]] const Event* find(std::uint64_t seq) const;
  void delivered(std::uint64_t seq) { delivered_ = std::max(delivered_, seq); }
  [[nodiscard]] bool delivered_all() const { return delivered_ + 1 >= next_seq(); }
  /// Gives up all events; their numbers stay used.
  void clear() {
    first_seq_ = next_seq();
    events_.clear();
    bytes_ = 0;
  }
  /// Nothing can make room but a reader.
  [[nodiscard]] bool full() const { return at_limit() && events_.front().seq > delivered_; }
  [[nodiscard]] std::uint64_t first_seq() const { return first_seq_; }
  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  [[nodiscard]] bool at_limit() const {
    return !events_.empty() && (events_.size() >= limits_.events_max || bytes_ >= limits_.bytes_max);
  }
  LogLimits limits_;
  std::deque<Event> events_;
  std::size_t bytes_ = 0;
  std::uint64_t first_seq_, delivered_ = 0, dropped_ = 0;
};

/// Whoever streams a job. wake(): there is more in the log. displaced(): another reader has taken over; close.
class Reader {
 public:
  virtual ~Reader() = default;
  virtual void wake() = 0;
  virtual void displaced() = 0;
};

struct JobOptions {
  std::string principal;  // the key that made it
  std::string operation;
  std::string correlation_id, traceparent;  // of the request that made it, for logs
  bool resumable = false;                   // survives its reader
  bool cancelled_by_disconnect = true;      // an inference; not a download
  bool openai = false;                      // its events are those of OpenAI's streams, the error that ends it, too
  std::optional<LogLimits> log;             // absent: the registry's
};

struct Job {
  std::string id;
  JobOptions options;
  State state = State::kQueued;
  std::optional<Error> error;
  WallTime created_at{}, started_at{}, completed_at{};
  EventLog log{LogLimits{}};
  std::function<void()> on_cancel;             // told once, when the job is cancelled from outside
  std::function<void()> on_space;              // the log is no longer full
  std::function<void(const Error&)> on_ended;  // told when the job ends without success

  [[nodiscard]] bool finished() const { return state != State::kQueued && state != State::kRunning; }
  [[nodiscard]] bool attached() const { return reader != nullptr; }

  // The registry's own.
  std::any payload;
  Reader* reader = nullptr;
  bool ever_attached = false, restored = false;
  Time touched{};  // created, or detached, or finished
};
using JobPtr = std::shared_ptr<Job>;

struct RegistryOptions {
  std::chrono::seconds unattended{60}, detached{60}, finished{300};
  LogLimits log;
  std::size_t finished_bytes_max = 64u << 20;  // of the logs of all finished jobs: the oldest give theirs up
  std::size_t finished_max = 32'768;           // finished jobs: the oldest go before their time
};

class Registry {
 public:
  explicit Registry(RegistryOptions options = {}) : options_(options) {}

  [[nodiscard]] JobPtr create(JobOptions options, Time now, WallTime wall);
  /// A job of an earlier process, under its own id; its events go on with `next_seq`, those before are lost.
  [[nodiscard]] JobPtr restore(std::string id, JobOptions options, std::uint64_t next_seq, Time now, WallTime wall);
  /// Visible to the key that made it and to admin. Errors: kJobNotFound.
  [[nodiscard]] Result<JobPtr> get(std::string_view id, std::string_view principal, bool admin) const;
  [[nodiscard]] std::vector<JobPtr> list(std::string_view principal, bool admin) const;
  [[nodiscard]] std::size_t count() const { return jobs_.size(); }
  void remove(const std::string& id) { jobs_.erase(id); }

  static void attach_payload(Job& job, std::any payload) { job.payload = std::move(payload); }
  [[nodiscard]] static std::any take_payload(Job& job) { return std::exchange(job.payload, {}); }

  /// Appends and wakes the reader. A finished job takes nothing more; false then, and when the event was dropped.
  bool append(Job& job, std::string type, std::string json);
  void start(Job& job, WallTime wall);
  /// `terminal`: type and JSON of the last event.
  void finish(Job& job, State state, std::optional<Error> error, std::string type, std::string json, Time now,
              WallTime wall);

  /// Attaches the one reader, to read from after `last_seq`. A second one: kStreamInUse, unless `take_over` and the job
  /// is resumable. Events already dropped: kEventsExpired; but a restored job shows whatever it has. The number after
  /// which the reader goes on.
  [[nodiscard]] Result<std::uint64_t> attach(Job& job, Reader& reader, std::uint64_t last_seq, bool take_over);
  /// The reader is gone. True when that must cancel the job.
  [[nodiscard]] bool detach(Job& job, const Reader& reader, Time now);
  /// The reader has taken events up to `seq`.
  void delivered(Job& job, std::uint64_t seq);

  /// Removes finished jobs whose time is over; returns those that must be cancelled because nobody reads them.
  [[nodiscard]] std::vector<JobPtr> sweep(Time now);

 private:
  /// Removes the oldest jobs beyond one bound, and the oldest logs beyond the other.
  void bound_finished();

  RegistryOptions options_;
  std::unordered_map<std::string, JobPtr> jobs_;
};

}  // namespace llorch::job
