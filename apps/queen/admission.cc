#include "queen/admission.h"

namespace llorch::queen {

bool Admission::take_deadline(const service::ContextPtr& c, const boost::json::value& given, Deadline& d) {
  if (const auto header = c->request.headers.get("X-Deadline")) d.header = *header, d.at = c->deadline;
  std::int64_t relative = options_.default_deadline_ms;
  if (!given.is_null()) {
    if (!given.is_int64() || given.get_int64() < 1 || given.get_int64() > options_.max_deadline_ms)
      return c->fail({ErrorCode::kInvalidRequest,
                      fmt::format("deadline_ms must be a whole number from 1 to {}", options_.max_deadline_ms)},
                     {}, "deadline_ms"),
             false;
    relative = given.get_int64();  // from here on it is a point in time, which waiting does not move
  }
  const auto now = std::chrono::system_clock::now();
  if (!d.at && relative > 0) {
    d.at = now + std::chrono::milliseconds(relative);
    d.header = std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(d.at->time_since_epoch()).count());
  }
  if (!d.at || *d.at > now) return true;
  metrics_.jobs.deadline("before_compute");
  metrics_.jobs.deadline_exceeded_by_ms.Observe(std::chrono::duration<double, std::milli>(now - *d.at).count());
  const auto ms = [](auto t) { return std::chrono::duration_cast<std::chrono::milliseconds>(t).count(); };
  c->fail({ErrorCode::kDeadlineExceeded, "the deadline has passed"},
          {{"deadline_ms", ms(d.at->time_since_epoch())}, {"elapsed_ms", 0}, {"exceeded_by_ms", ms(now - *d.at)}});
  return false;
}

net::EventLoop::Timer Admission::guard(const service::FlowPtr& flow, const Deadline& d) {
  if (!d.at) return {};
  const auto left = std::chrono::duration_cast<net::Clock::duration>(*d.at - std::chrono::system_clock::now());
  return flow->loop().after(
      std::max(left, net::Clock::duration::zero()), [&metrics = metrics_, weak = std::weak_ptr(flow)] {
        const auto alive = weak.lock();
        if (!alive) return;
        metrics.jobs.deadline("queued");
        alive->cancel({ErrorCode::kDeadlineExceeded, "the deadline passed while the request was waiting"});
      });
}

bool Admission::may_enter(const service::ContextPtr& c) const {
  if (closed_) return c->fail({ErrorCode::kShuttingDown, "the queen is shutting down"}), false;
  if (const Status s = demand_ ? demand_() : Status(); !s) return c->fail(s.error()), false;
  return true;
}

std::shared_ptr<void> Admission::enter(const service::ContextPtr& c) {
  if (!may_enter(c)) return nullptr;
  // Where a newcomer may take another's place, that is known once it was read.
  const bool may_drop = options_.admission_policy == "drop-lru";
  if (full(*entered_ + (may_drop ? 0 : line_.count()))) return refuse(c), nullptr;
  ++*entered_;
  return {entered_.get(), [count = entered_](int*) { --*count; }};
}

OpenRequestPtr Admission::admit(const service::ContextPtr& c, bool batch) {
  if (!may_enter(c)) return nullptr;
  if (full(line_.count() + *entered_) && !make_place(batch)) return refuse(c), nullptr;
  metrics_.enqueued("accepted");
  return std::make_unique<OpenRequest>(metrics_);
}

/// Where the policy lets a newcomer take the place of one that waits.
bool Admission::make_place(bool batch) {
  if (options_.admission_policy != "drop-lru") return false;
  const auto* out = line_.least_wanted(batch);
  if (!out || !out->drop) return false;
  const auto drop = out->drop;  // it goes with its entry
  metrics_.enqueued("dropped");
  metrics_.backpressure.Increment();
  drop();
  return true;
}

void Admission::refuse(const service::ContextPtr& c) {
  metrics_.rejected.Increment();
  metrics_.backpressure.Increment();
  metrics_.enqueued("rejected");
  c->fail({ErrorCode::kQueueFull, "the queue is full"}, {{"retry_after_ms", 1000},
                                                         {"backoff_ms", 1000},
                                                         {"queue_depth", line_.count() + *entered_},
                                                         {"queue_capacity", options_.admission_capacity}});
}

}  // namespace llorch::queen
