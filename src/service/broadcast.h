// Events for whoever listens now, to many at once: nothing is kept, and a listener that is slow misses some.
//
// Threads: the event loop's.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "net/sse.h"
#include "service/router.h"

namespace llorch::service {

class Broadcast {
 public:
  /// Answers with an event stream that lasts until the listener leaves. Errors are answered.
  void join(const ContextPtr& c) {
    std::erase_if(listeners_, [](const ContextPtr& l) { return !l->exchange->alive(); });
    if (listeners_.size() >= kListenersMax)
      return c->fail({ErrorCode::kQueueFull, "too many listeners of this stream"});
    net::Response head;
    head.content_type = "text/event-stream";
    head.headers.add("Cache-Control", "no-cache");
    head.headers.add("X-Accel-Buffering", "no");
    c->decorate(head.headers);
    c->exchange->on_gone = [this, gone = c->exchange.get()] {
      std::erase_if(listeners_, [gone](const ContextPtr& l) { return l->exchange.get() == gone; });
    };
    c->exchange->start(std::move(head));
    c->streamed(200);
    listeners_.push_back(c);
  }
  void send(std::string_view type, const std::string& json) {
    const std::string frame = net::sse_frame(0, type, json);
    for (const ContextPtr& l : std::vector<ContextPtr>(listeners_))
      if (l->exchange->alive() && l->exchange->unsent() < kUnsentMax) l->exchange->write(frame);
  }
  [[nodiscard]] bool empty() const { return listeners_.empty(); }
  /// Ends all streams; `last`: what they say at the end.
  void close(const std::string& last = {}) {
    for (const ContextPtr& l : std::exchange(listeners_, {})) {
      if (!last.empty() && l->exchange->alive()) l->exchange->write(last);
      l->exchange->finish();
    }
  }

 private:
  static constexpr std::size_t kListenersMax = 1000, kUnsentMax = 1u << 20;
  std::vector<ContextPtr> listeners_;
};

}  // namespace llorch::service
