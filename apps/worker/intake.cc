#include "worker/intake.h"

#include <fmt/format.h>

#include "security/digest.h"
#include "worker/limits.h"

namespace llorch::worker {
namespace {

std::int64_t whole_ms(auto duration) { return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count(); }

service::BackgroundOptions lane(int nice) {
  return {.threads = limits::kPrepareThreads,
          .begun_max = limits::kPrepareBegunMax,
          .slice = limits::kPrepareSlice,
          .queue_max = limits::kPrepareQueueMax,
          .queue_per_owner_max = limits::kPrepareQueueMax,
          .nice = nice};
}

}  // namespace

void PromptRequest::fail(const Error& error, const boost::json::object& details, std::string_view param) {
  deadline_.cancel();
  release_key();
  ticket = {};
  if (!c->exchange->alive()) return;
  if (error.code != ErrorCode::kDeadlineExceeded || !details.empty()) return c->fail(error, details, param);
  const auto now = net::Clock::now();
  boost::json::object late{{"elapsed_ms", whole_ms(now - c->accepted)}};
  if (const auto over = whole_ms(now - bound_.deadline); over >= 0) {  // else it was a deadline of the body
    late["deadline_ms"] = whole_ms(std::chrono::system_clock::now().time_since_epoch()) - over;
    late["exceeded_by_ms"] = over;
  }
  c->fail(error, late);
}

void PromptRequest::answered(const std::string& job_id, std::optional<net::Response> response) {
  if (!key_) return;
  if (const auto store = store_.lock()) store->answered(*key_, {job_id, std::move(response)});
  key_.reset();
}

void PromptRequest::release_key() {
  if (const auto key = std::exchange(key_, {}))
    if (const auto store = store_.lock()) store->release(*key);
}

Intake::Intake(Parts parts) : parts_(std::move(parts)), short_(parts_.loop, lane(0)), long_(parts_.loop, lane(10)) {}

PromptRequestPtr Intake::open(const service::ContextPtr& c) {
  auto r = std::make_shared<PromptRequest>(c, parts_.idempotency);
  if (const Status s = parts_.may_serve(); !s) return refuse(*r, s.error()), nullptr;
  auto ticket = parts_.admission.enter();
  if (!ticket) return refuse(*r, ticket.error()), nullptr;
  r->ticket = *std::move(ticket);
  r->bound_.accepted = c->accepted, r->bound_.cancelled = r->cancellation_;
  r->bound_.deadline = c->accepted + limits::kPrepareTimeMax;
  if (c->deadline)
    if (const auto left = *c->deadline - std::chrono::system_clock::now(); left < limits::kPrepareTimeMax)
      r->bound_.tighten_to(net::Clock::now() + std::chrono::duration_cast<net::Clock::duration>(left));
  if (r->bound_.deadline <= net::Clock::now()) return late(r), nullptr;
  return r;
}

void Intake::refuse(PromptRequest& r, const Error& error, std::string_view param) {
  if (error.code != ErrorCode::kQueueFull) return r.fail(error, {}, param);
  parts_.metrics.request("rejected");
  r.fail(error, {{"retry_after_ms", 1000},
                 {"backoff_ms", 1000},
                 {"queue_depth", parts_.admission.waiting()},
                 {"queue_capacity", parts_.admission.queue_capacity()}});
}

bool Intake::grow(PromptRequest& r, int generations, std::string_view param) {
  const Status s = parts_.admission.grow(r.ticket, generations);
  if (!s) refuse(r, s.error(), param);
  return s.has_value();
}

/// Nobody waits for it any more.
void Intake::cancel(const PromptRequestPtr& r) {
  waiting_.erase(r);
  short_.cancel(r->cancellation_), long_.cancel(r->cancellation_);
  r->deadline_.cancel();
  r->ticket = {};
  r->release_key();
}

void Intake::late(const PromptRequestPtr& r) {
  cancel(r);
  parts_.metrics.deadline("before_compute");
  parts_.metrics.deadline_exceeded_by_ms.Observe(static_cast<double>(whole_ms(net::Clock::now() - r->bound_.deadline)));
  r->fail(r->bound_.late());
}

void Intake::prepare(const PromptRequestPtr& r, std::function<void(const PrepareBound&)> prepare,
                     std::function<void(const PromptRequestPtr&)> go_on) {
  const auto key = r->c->request.headers.get("Idempotency-Key");
  if (key && (key->empty() || key->size() > limits::kIdempotencyKeyBytesMax))
    return r->fail({ErrorCode::kInvalidRequest, "Idempotency-Key must have 1 to 256 characters"}, {},
                   "Idempotency-Key");
  const std::weak_ptr<PromptRequest> weak = r;
  r->c->exchange->on_gone = [this, weak] {
    if (const auto alive = weak.lock()) cancel(alive);
  };
  r->deadline_ =
      parts_.loop.after(std::max(r->bound_.deadline - net::Clock::now(), net::Clock::duration(0)), [this, weak] {
        if (const auto alive = weak.lock()) late(alive);
      });
  r->bound_.pause = [&lane = lane_of(*r)] { lane.pause(); };
  r->prepare_ = std::move(prepare), r->go_on_ = std::move(go_on);
  if (!key) return run_prepare(r);
  enqueue(
      r, [r] { r->body_hash = security::sha256_hex(r->c->request.body); }, [this, r] { reserve(r); });
}

void Intake::run_prepare(const PromptRequestPtr& r) {
  const auto work = [r] {
    if (r->body_hash.empty()) r->body_hash = security::sha256_hex(r->c->request.body);
    r->prepare_(r->bound_);
    std::string& body = r->c->request.body;
    r->body_bytes = body.size();
    body = {};  // freed here, not on the loop; what was made of it still counts
  };
  enqueue(r, work, [r] {
    r->deadline_.cancel();
    r->ticket.keep(std::exchange(r->c->request.body_share, nullptr));
    r->go_on_(r);
  });
}

/// The request's key is its own, or the answer is another's.
void Intake::reserve(const PromptRequestPtr& r) {
  const service::ContextPtr& c = r->c;
  const std::string key =
      IdempotencyStore::key_of(c->principal.id, c->route, *c->request.headers.get("Idempotency-Key"));
  const auto again = [this, weak = std::weak_ptr(r)] {
    const auto alive = weak.lock();
    if (alive && waiting_.erase(alive) > 0) reserve(alive);
  };
  switch (parts_.idempotency->claim(c->principal.id, key, r->body_hash, net::Clock::now(), again)) {
    case IdempotencyStore::Claim::kReserved: r->key_ = key; return run_prepare(r);
    case IdempotencyStore::Claim::kMismatch:
      return r->fail({ErrorCode::kIdempotencyMismatch, "this Idempotency-Key was used with another body"});
    case IdempotencyStore::Claim::kWaits: waiting_.insert(r); return;
    case IdempotencyStore::Claim::kAnswered: break;
  }
  r->deadline_.cancel();
  const IdempotencyStore::Answer answer = *parts_.idempotency->answer(key);
  if (parts_.replay(c, answer)) return;
  parts_.idempotency->release(key);
  reserve(r);
}

service::Background& Intake::lane_of(const PromptRequest& r) {
  return r.c->request.body.size() <= limits::kShortBodyBytes ? short_ : long_;
}

/// After work in the background. What throws here ends the request: nobody else would before its deadline.
void Intake::go_on(PromptRequest& r, const Status& done, const std::function<void()>& then) {
  const service::ContextPtr c = r.c;
  try {
    try {
      if (!done) return r.fail(done.error());
      then();
    } catch (const std::bad_alloc&) {
      r.fail({ErrorCode::kInsufficientMemory, "there is not enough memory for this"});
    }
  } catch (const std::exception&) {
    c->exchange->abort();
  }
}

void Intake::enqueue(const PromptRequestPtr& r, std::function<void()> work, std::function<void()> then) {
  lane_of(*r).run({std::move(work),
                   [r, then = std::move(then)](const Status& done) {
                     if (r->c->exchange->alive()) go_on(*r, done, then);
                   },
                   r->c->principal.id.empty() ? r->c->request.peer : r->c->principal.id, r->cancellation_});
}

void Intake::ping(bool for_long, std::function<void()> answered) {
  (for_long ? long_ : short_)
      .run({[] {}, [answered = std::move(answered)](const Status&) { answered(); }, "health", nullptr});
}

void Intake::close() { short_.close(), long_.close(); }

}  // namespace llorch::worker
