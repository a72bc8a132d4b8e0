// A request's way into the queen: its body is read, and its Idempotency-Key reserved.
//
// Bodies of up to 64 KiB are read at once; longer ones on background threads of low priority, where keys take turns,
// and count at the door as waiting meanwhile. A client that leaves calls its part off. Threads: the event loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "queen/admission.h"
#include "service/background.h"
#include "service/idempotency.h"
#include "service/router.h"

namespace llorch::queen {

class Intake {
 public:
  Intake(net::EventLoop& loop, Admission& admission);

  /// `read` on whatever thread: it touches the request's head and body, and its own. Then `go_on` on the loop, unless
  /// the client left, or was refused here. The body is freed when it was read.
  void prepare(const service::ContextPtr& c, std::function<void()> read, std::function<void()> go_on);
  /// For other work with texts of megabytes.
  [[nodiscard]] service::Background& background() { return long_; }
  /// Whether the request goes on: its key, where it has one, is in `key` then. Else it was answered, or `again` will
  /// be called. `body_hash`: of the body that a repeated key must come with.
  [[nodiscard]] bool reserve(const service::ContextPtr& c, const std::string& body_hash, service::ReservedKey& key,
                             std::function<void()> again);
  /// Forgets old answers.
  void sweep() { answers_->sweep(net::Clock::now()); }
  void close() { long_.close(); }

 private:
  Admission& admission_;
  std::shared_ptr<service::IdempotencyStore> answers_;
  service::Background long_;
};

}  // namespace llorch::queen
