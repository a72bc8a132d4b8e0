// The hive of this machine, which the queen starts where she needs one and ends with herself.
//
// Threads: the event loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "service/flow.h"
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
      : loop_(loop), id_(std::move(id)), plan_(std::move(plan)) {}

  /// Once: a running one is left alone. Errors: kIo.
  [[nodiscard]] Status start();
  [[nodiscard]] bool running() const { return process_ && process_->running(); }
  void signal(int number) {
    if (running()) process_->signal(number);
  }
  /// The last one was ended by a signal.
  [[nodiscard]] bool killed() const { return killed_; }
  [[nodiscard]] const std::string& id() const { return id_; }
  /// What it logged last.
  [[nodiscard]] const std::string& last_message() const { return last_message_; }
  /// Notified when it has ended.
  [[nodiscard]] service::Signal& exited() { return exited_; }
  /// Told to end, and killed where that does not help; goes on when it is gone.
  [[nodiscard]] service::Step<bool> stop(const service::FlowPtr& flow);

 private:
  net::EventLoop& loop_;
  std::string id_, last_message_;
  bool killed_ = false;
  Plan plan_;
  service::Signal exited_;
  std::unique_ptr<service::Process> process_;
};

}  // namespace llorch::queen
