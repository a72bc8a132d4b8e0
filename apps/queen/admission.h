// What stands at the queen's door for requests: how many may wait, and until when an answer is worth something.
//
// Threads: the event loop's.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <optional>
#include <string>

#include "queen/open_request.h"
#include "queen/options.h"
#include "queen/policy.h"
#include "service/flow.h"
#include "service/router.h"

namespace llorch::queen {

/// When an answer is worthless: a point in time, and the header that says it to the worker (S-40).
struct Deadline {
  std::string header;
  std::optional<std::chrono::system_clock::time_point> at;
};

class Admission {
 public:
  Admission(const QueenOptions& options, WaitingLine& line, Metrics& metrics)
      : options_(options), line_(line), metrics_(metrics) {}
  /// A place for a request whose body is being read, which counts as waiting meanwhile; null: refused here.
  [[nodiscard]] std::shared_ptr<void> enter(const service::ContextPtr& c);
  /// One more request, which counts from now on; null: QUEUE_FULL or SHUTTING_DOWN was answered.
  [[nodiscard]] OpenRequestPtr admit(const service::ContextPtr& c, bool batch);
  /// Of a request: its header, `relative` (deadline_ms of its body, or null), or the default. False when it was
  /// refused.
  [[nodiscard]] bool take_deadline(const service::ContextPtr& c, const boost::json::value& relative, Deadline& d);
  /// Cancels the flow when the deadline passes: until the request has its worker, who knows the deadline as well.
  [[nodiscard]] net::EventLoop::Timer guard(const service::FlowPtr& flow, const Deadline& d);
  void close() { closed_ = true; }
  /// What must hold besides room. Errors: with what a request is refused.
  void demand(std::function<Status()> check) { demand_ = std::move(check); }

 private:
  [[nodiscard]] bool full(int waiting) const {
    return options_.admission_capacity >= 0 && waiting >= options_.admission_capacity;
  }
  [[nodiscard]] bool make_place(bool batch);
  void refuse(const service::ContextPtr& c);
  /// False: it was refused, whatever room there is.
  [[nodiscard]] bool may_enter(const service::ContextPtr& c) const;
  const QueenOptions& options_;
  WaitingLine& line_;
  Metrics& metrics_;
  std::function<Status()> demand_;  // may be empty
  bool closed_ = false;
  std::shared_ptr<int> entered_ = std::make_shared<int>(0);
};

}  // namespace llorch::queen
