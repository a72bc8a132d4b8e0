#include "queen/shared_claims.h"

#include <algorithm>

#include "queen/shared_entries.h"
#include "security/digest.h"
#include "service/idempotency.h"

namespace llorch::queen {

using coord::Outcome;
using coord::Revision;

namespace {

constexpr std::chrono::minutes kClaimKept{10};
constexpr std::chrono::milliseconds kLookAgain{100};
constexpr int kLooksMax = 50;

std::string claim_text(const std::string& body_hash, const std::string& answer) {
  return boost::json::serialize(boost::json::object{{"body", body_hash}, {"answer", answer}});
}

}  // namespace

struct SharedClaims::Attempt {
  service::ContextPtr c;
  std::string key, body_hash;
  std::shared_ptr<ClaimPtr> slot;
  std::function<void()> go_on;
  net::EventLoop::Timer again;
  int looks = 0;
};

SharedClaims::Claim::Claim(SharedClaims& claims, std::string key, std::string body_hash)
    : claims_(claims), alive_(claims.alive_), key_(std::move(key)), body_hash_(std::move(body_hash)) {}

SharedClaims::Claim::~Claim() {
  if (answered_ || alive_.expired()) return;
  claims_.fleet_.store().remove(key_, {}, [](const Outcome<Revision>&) {});
}

void SharedClaims::Claim::answered(const std::string& body) {
  if (alive_.expired()) return;
  answered_ = true;
  claims_.answered_.emplace_back(net::Clock::now(), key_);
  claims_.fleet_.store().put(
      key_, claim_text(body_hash_, body), {}, [](const Outcome<Revision>&) {}, claims_.fleet_.lease());
}

void SharedClaims::reserve(const service::ContextPtr& c, const std::string& body_hash, std::shared_ptr<ClaimPtr> slot,
                           std::function<void()> go_on) {
  const auto given = c->request.headers.get("Idempotency-Key");
  if (!given || fleet_.lease() == 0) return go_on();
  const std::string name = service::IdempotencyStore::key_of(c->principal.id, c->route, *given);
  const auto a = std::make_shared<Attempt>();
  a->c = c, a->key = shared::key_of(shared::kClaims, security::sha256_hex(name)), a->body_hash = body_hash;
  a->slot = std::move(slot), a->go_on = std::move(go_on);
  attempts_.insert(a);
  attempt(a);
}

void SharedClaims::attempt(const AttemptPtr& a) {
  const auto taken = [this, alive = std::weak_ptr(alive_), a](const Outcome<Revision>& put) {
    if (alive.expired()) return;
    if (put || put.error().problem != coord::Problem::kConflict) return go_on(a, put.has_value());
    look(a);
  };
  fleet_.store().put(a->key, claim_text(a->body_hash, ""), Revision{0}, taken, fleet_.lease());
}

void SharedClaims::look(const AttemptPtr& a) {
  fleet_.store().get(a->key, [this, alive = std::weak_ptr(alive_), a](const Outcome<coord::Lookup>& found) {
    if (alive.expired()) return;
    if (!found) return go_on(a, false);
    if (!found->entry) return attempt(a);
    const boost::json::object o = shared::read_object(found->entry->value);
    const std::string text = shared::text_in(o, "answer");
    if (shared::text_in(o, "body") == a->body_hash && text.empty() && ++a->looks < kLooksMax) {
      a->again = fleet_.store().loop().after(kLookAgain, [this, weak = std::weak_ptr(a)] {
        if (const auto still = weak.lock()) look(still);
      });
      return;
    }
    attempts_.erase(a);
    if (!a->c->exchange->alive()) return;
    if (shared::text_in(o, "body") != a->body_hash)
      return a->c->fail({ErrorCode::kIdempotencyMismatch, "this Idempotency-Key was used with another body"});
    if (text.empty())
      return a->c->fail({ErrorCode::kResourceInUse, "another queen is at work on this Idempotency-Key: try again"});
    answer(a, text);
  });
}

void SharedClaims::go_on(const AttemptPtr& a, bool claimed) {
  attempts_.erase(a);
  if (claimed) *a->slot = std::make_shared<Claim>(*this, a->key, a->body_hash);
  if (a->c->exchange->alive()) a->go_on();
}

void SharedClaims::answer(const AttemptPtr& a, const std::string& text) {
  net::Response response;
  response.status = 202, response.body = text;
  response.headers.add("Idempotent-Replayed", "true");
  a->c->reply(std::move(response));
}

void SharedClaims::sweep() {
  const auto now = net::Clock::now();
  const auto young =
      std::ranges::find_if(answered_, [&](const auto& answer) { return now - answer.first < kClaimKept; });
  for (auto it = answered_.begin(); it != young; ++it)
    fleet_.store().remove(it->second, {}, [](const Outcome<Revision>&) {});
  answered_.erase(answered_.begin(), young);
}

}  // namespace llorch::queen
