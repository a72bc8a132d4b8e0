// Idempotency-Keys of requests that make jobs, over all queens of a fleet: one of them carries a request out, and the
// others answer as she did, for ten minutes and as long as she lives.
//
// Before a job is made, its key is claimed in the store, under the queen's lease: "claims/SHA256 of the key" has the
// body's hash, and the answer once there is one. An answer names a job and holds nothing of a prompt. While the store
// does not answer, each queen looks after her own keys alone. Threads: the event loop's.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "queen/fleet.h"
#include "service/router.h"

namespace llorch::queen {

class SharedClaims {
 public:
  explicit SharedClaims(Fleet& fleet) : fleet_(fleet) {}
  SharedClaims(const SharedClaims&) = delete;
  SharedClaims& operator=(const SharedClaims&) = delete;

  /// What a request holds that is being carried out here; the key is free again when it goes without an answer.
  class Claim {
   public:
    Claim(SharedClaims& claims, std::string key, std::string body_hash);
    ~Claim();
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    void answered(const std::string& body);

   private:
    SharedClaims& claims_;
    std::weak_ptr<int> alive_;  // of those
    std::string key_, body_hash_;
    bool answered_ = false;
  };
  using ClaimPtr = std::shared_ptr<Claim>;

  /// Claims the key that the request names, if any, into `slot`, and goes on; or answers: as the other queen did, with
  /// kIdempotencyMismatch, or with kResourceInUse when she takes too long.
  void reserve(const service::ContextPtr& c, const std::string& body_hash, std::shared_ptr<ClaimPtr> slot,
               std::function<void()> go_on);
  /// Forgets answers that are older than the window.
  void sweep();

 private:
  struct Attempt;
  using AttemptPtr = std::shared_ptr<Attempt>;
  void attempt(const AttemptPtr& a);
  void look(const AttemptPtr& a);
  /// Carried out here; `claimed`: the store has it.
  void go_on(const AttemptPtr& a, bool claimed);
  void answer(const AttemptPtr& a, const std::string& text);

  Fleet& fleet_;
  std::set<AttemptPtr> attempts_;
  std::vector<std::pair<net::Clock::time_point, std::string>> answered_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace llorch::queen
