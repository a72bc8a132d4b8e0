// Idempotency-Key: the same answer again for ten minutes (J-07).
#include "security/digest.h"
#include "worker/worker.h"

namespace llorch::worker {
namespace {
constexpr std::size_t kRememberedMax = 10'000;
}  // namespace

bool Worker::replay(const service::ContextPtr& c) {
  const auto key = c->request.headers.get("Idempotency-Key");
  if (!key) return false;
  if (key->empty() || key->size() > 256)
    return c->fail({ErrorCode::kInvalidRequest, "Idempotency-Key must have 1 to 256 characters"}, {},
                   "Idempotency-Key"),
           true;
  const auto it = remembered_.find(c->principal.id + "|" + c->route + "|" + *key);
  if (it == remembered_.end()) return false;
  Remembered& r = it->second;
  if (r.body_hash != security::sha256_hex(c->request.body))
    return c->fail({ErrorCode::kIdempotencyMismatch, "this Idempotency-Key was used with another body"}), true;
  if (!r.response) {  // the same stream again, from its beginning, or an answer that is still being made
    const auto job = jobs_.get(r.job_id, c->principal.id, false);
    if (!job) return remembered_.erase(it), false;
    service::StreamOptions again{.framing = (*job)->options.resumable ? service::Framing::kOpenAiResumable
                                                                      : service::Framing::kOpenAi};
    again.headers.add("Idempotent-Replayed", "true");
    const bool streamed = (*job)->options.cancelled_by_disconnect &&
                          service::stream_job(loop_, jobs_, *job, c, std::move(again), [this](const job::JobPtr& j) {
                            disconnected(j);
                          }).has_value();
    if (!streamed)
      c->fail({ErrorCode::kResourceInUse, "the first request with this Idempotency-Key is still running"},
              {{"job_id", r.job_id}});
    return true;
  }
  net::Response again = *r.response;
  again.headers.add("Idempotent-Replayed", "true");
  c->reply(std::move(again));
  return true;
}

void Worker::remember(const service::ContextPtr& c, const std::string& job_id, std::optional<net::Response> response) {
  const auto key = c->request.headers.get("Idempotency-Key");
  if (!key || remembered_.size() >= kRememberedMax) return;
  remembered_[c->principal.id + "|" + c->route + "|" + *key] = {security::sha256_hex(c->request.body), job_id,
                                                                std::move(response), net::Clock::now()};
}

void Worker::forget(const service::ContextPtr& c) {
  if (const auto key = c->request.headers.get("Idempotency-Key"))
    remembered_.erase(c->principal.id + "|" + c->route + "|" + *key);
}

}  // namespace llorch::worker
