// The hive of this machine, which the queen starts where she needs one and ends with herself.
//
// Threads: the event loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "service/flow.h"
#include "service/last_words.h"
#include "service/process.h"

namespace llorch::queen {

class LocalHive {
 public:
  /// How it is started, and what is to be done when it has ended.
  struct Plan {
    std::function<service::ProcessOptions()> invocation;
    std::function<void(int exit_code)> on_exit;
  };
  LocalHive(net::EventLoop& loop, std::string id, Plan plan)
      : loop_(loop), id_(std::move(id)), plan_(std::move(plan)), starter_(loop) {}

  /// Goes on when it runs; one that runs, or is being started, is left alone. It is started also when nobody waits any
  /// more. Errors: kIo, kInsufficientMemory, those of Background.
  [[nodiscard]] service::Step<bool> start(const service::FlowPtr& flow);
  /// It runs, or is being started.
  [[nodiscard]] bool running() const { return starting_ || (process_ && process_->running()); }
  /// One that is being started gets it once it runs.
  void signal(int number);
  /// The last one was ended by a signal.
  [[nodiscard]] bool killed() const { return killed_; }
  /// A heartbeat of this machine's hive has come.
  void heard() { heard_ = true; }
  /// One has, since it was started.
  [[nodiscard]] bool was_heard() const { return heard_; }
  /// Why the last one could not be started, or what ended it; empty: it runs, has ended with 0, or none was started.
  [[nodiscard]] const std::string& failure() const { return failure_; }
  [[nodiscard]] const std::string& id() const { return id_; }
  /// Its last error, else what it logged last.
  [[nodiscard]] const std::string& last_message() const { return last_words_.text(); }
  /// Notified when it has ended.
  [[nodiscard]] service::Signal& exited() { return exited_; }
  /// Told to end, and killed where that does not help; goes on when it is gone.
  [[nodiscard]] service::Step<bool> stop(const service::FlowPtr& flow);

 private:
  using Started = Result<std::unique_ptr<service::Process>>;
  void begin();
  void started(Started process);
  void take_line(const std::string& line);
  void take_exit(int code);

  net::EventLoop& loop_;
  std::string id_;
  service::LastWords last_words_;
  bool starting_ = false, killed_ = false, heard_ = false;
  std::string failure_;
  int signal_ = 0;  // for one that is being started
  Plan plan_;
  service::Signal exited_;
  std::vector<service::Step<bool>::Done> waiting_;  // for one that is being started
  std::unique_ptr<service::Process> process_;
  service::Background starter_;  // last: its tasks use what is above
};

}  // namespace llorch::queen
