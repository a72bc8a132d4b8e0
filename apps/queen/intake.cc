#include "queen/intake.h"

namespace llorch::queen {
namespace {

constexpr std::size_t kShortBodyBytes = 64u << 10;  // read in less than a millisecond
constexpr std::size_t kAnswersBytesMax = 16u << 20, kKeyBytesMax = 256;
/// Two, so that one body of megabytes does not hold up the next; below the loop, which everybody waits for.
constexpr service::BackgroundOptions kLong{.threads = 2, .queue_max = 4096, .queue_per_owner_max = 4096, .nice = 10};

}  // namespace

Intake::Intake(net::EventLoop& loop, Admission& admission)
    : admission_(admission),
      answers_(std::make_shared<service::IdempotencyStore>(kAnswersBytesMax)),
      long_(loop, kLong) {}

void Intake::prepare(const service::ContextPtr& c, std::function<void()> read, std::function<void()> go_on) {
  if (c->request.body.size() <= kShortBodyBytes) {
    read();
    c->request.body = {};
    return go_on();
  }
  auto place = admission_.enter(c);
  if (!place) return;
  const auto cancellation = service::make_cancellation();
  c->exchange->on_gone = [this, cancellation] { long_.cancel(cancellation); };
  auto work = [c, read = std::move(read)] {
    read();
    c->request.body = {};  // freed here, not on the loop; what was made of it still counts (Request::body_share)
  };
  long_.run({std::move(work),
             [c, place = std::move(place), go_on = std::move(go_on)](const Status& done) mutable {
               place.reset();  // from here on it waits in line
               if (!c->exchange->alive()) return;
               c->exchange->on_gone = nullptr;
               if (!done) return c->fail(done.error());
               go_on();
             },
             c->principal.id.empty() ? c->request.peer : c->principal.id, cancellation});
}

bool Intake::reserve(const service::ContextPtr& c, const std::string& body_hash, service::ReservedKey& key,
                     std::function<void()> again) {
  using Claim = service::IdempotencyStore::Claim;
  const auto given = c->request.headers.get("Idempotency-Key");
  if (!given) return true;
  if (given->empty() || given->size() > kKeyBytesMax)
    return c->fail({ErrorCode::kInvalidRequest, "Idempotency-Key must have 1 to 256 characters"}, {},
                   "Idempotency-Key"),
           false;
  const std::string name = service::IdempotencyStore::key_of(c->principal.id, c->route, *given);
  switch (answers_->claim(c->principal.id, name, body_hash, net::Clock::now(), std::move(again))) {
    case Claim::kReserved: key = service::ReservedKey(answers_, name); return true;
    case Claim::kWaits: return false;
    case Claim::kMismatch:
      return c->fail({ErrorCode::kIdempotencyMismatch, "this Idempotency-Key was used with another body"}), false;
    case Claim::kAnswered: break;
  }
  net::Response response = answers_->answer(name)->response.value();
  response.headers.add("Idempotent-Replayed", "true");
  c->reply(std::move(response));
  return false;
}

}  // namespace llorch::queen
