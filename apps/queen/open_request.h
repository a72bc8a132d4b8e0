// A request that the queen has let in: counted once when it is made, and once when it ends, however it ends.
//
// started = completed + failed + cancelled + those under way (tests/soak/soak.py compares them). What goes without a
// word, because an exception left its procedure, has failed. Threads: the event loop's.
#pragma once

#include "queen/metrics.h"

namespace llorch::queen {

class OpenRequest {
 public:
  explicit OpenRequest(Metrics& metrics) : metrics_(metrics) { metrics_.request_started(); }
  ~OpenRequest() { end("failed"); }
  OpenRequest(const OpenRequest&) = delete;
  OpenRequest& operator=(const OpenRequest&) = delete;

  // The first of these counts.
  void completed() { end("completed"); }
  void cancelled() { end("cancelled"); }
  void failed(ErrorCode code) { end(code == ErrorCode::kCancelled ? "cancelled" : "failed"); }

 private:
  void end(const char* outcome) {
    if (!std::exchange(ended_, true)) metrics_.request_ended(outcome);
  }
  Metrics& metrics_;
  bool ended_ = false;
};
using OpenRequestPtr = std::unique_ptr<OpenRequest>;

}  // namespace llorch::queen
