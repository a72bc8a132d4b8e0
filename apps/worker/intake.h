// A request's way from the door to the engine: admission, Idempotency-Key, parsing, template and tokenizer.
//
// Everything that is more than a glance happens on background threads: two for short requests, two of lower priority
// for long ones, so that a prompt of megabytes does not hold up the others; principals take turns, in slices of some
// milliseconds. A client that left, a deadline and the worker's end cancel what is under way. Threads: the event
// loop's.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "service/background.h"
#include "service/idempotency.h"
#include "service/router.h"
#include "worker/admission.h"
#include "worker/metrics.h"
#include "worker/prompt_renderer.h"

namespace llorch::worker {

using service::IdempotencyStore;
class PromptRequest;
using PromptRequestPtr = std::shared_ptr<PromptRequest>;

/// One request on its way. Whoever holds it last gives back its place and its key, unless a job took them over.
class PromptRequest {
 public:
  PromptRequest(service::ContextPtr context, std::weak_ptr<IdempotencyStore> store)
      : c(std::move(context)), store_(std::move(store)) {}
  ~PromptRequest() { release_key(); }
  PromptRequest(const PromptRequest&) = delete;
  PromptRequest& operator=(const PromptRequest&) = delete;

  service::ContextPtr c;
  Admission::Ticket ticket;
  std::string body_hash;       // SHA-256 of the body, once it was prepared
  std::size_t body_bytes = 0;  // what it had, before it was freed

  /// Answers with an error; the key may be used again, the place is free.
  void fail(const Error& error, const boost::json::object& details = {}, std::string_view param = {});
  [[nodiscard]] bool has_key() const { return key_.has_value(); }
  /// The answer for this request's key, if it has one.
  void answered(const std::string& job_id, std::optional<net::Response> response);
  /// What failed may be tried again under the same key.
  void release_key();

 private:
  friend class Intake;
  std::weak_ptr<IdempotencyStore> store_;
  std::optional<std::string> key_;  // reserved
  service::Cancellation cancellation_ = service::make_cancellation();
  net::EventLoop::Timer deadline_;
  PrepareBound bound_;
  std::function<void(const PrepareBound&)> prepare_;
  std::function<void(const PromptRequestPtr&)> go_on_;
};

class Intake {
 public:
  struct Parts {
    net::EventLoop& loop;
    Metrics& metrics;
    Admission& admission;
    std::shared_ptr<IdempotencyStore> idempotency;
    std::function<Status()> may_serve;
    /// Answers once more what was answered before; false: it is gone, and the key is free.
    std::function<bool(const service::ContextPtr&, const IdempotencyStore::Answer&)> replay;
  };
  explicit Intake(Parts parts);

  /// By the request's head: a place for it, or nothing, and the refusal was sent.
  [[nodiscard]] PromptRequestPtr open(const service::ContextPtr& c);
  /// `prepare` on a background thread, then `go_on` on the loop; unless the answer was given here.
  void prepare(const PromptRequestPtr& r, std::function<void(const PrepareBound&)> prepare,
               std::function<void(const PromptRequestPtr&)> go_on);
  /// The request turns out to be `generations`; false: refused here. `param`: the field that asks for so many.
  [[nodiscard]] bool grow(PromptRequest& r, int generations, std::string_view param);
  /// Other work of requests, such as writing a large answer.
  [[nodiscard]] service::Background& background() { return short_; }
  /// For HealthProbe: `answered` after a turn on the threads for short, or for long requests.
  void ping(bool for_long, std::function<void()> answered);
  /// Cancels all that is under way and takes no more.
  void close();
  [[nodiscard]] std::size_t load() const { return short_.load() + long_.load(); }

 private:
  void refuse(PromptRequest& r, const Error& error, std::string_view param = {});
  void reserve(const PromptRequestPtr& r);
  void run_prepare(const PromptRequestPtr& r);
  [[nodiscard]] service::Background& lane_of(const PromptRequest& r);
  static void go_on(PromptRequest& r, const Status& done, const std::function<void()>& then);
  void enqueue(const PromptRequestPtr& r, std::function<void()> work, std::function<void()> then);
  void cancel(const PromptRequestPtr& r);
  void late(const PromptRequestPtr& r);

  Parts parts_;
  std::set<PromptRequestPtr> waiting_;  // for another request with the same key
  service::Background short_, long_;
};

}  // namespace llorch::worker
