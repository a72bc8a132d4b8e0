// Server-sent events, as text: writing one event, and reading a stream cut anywhere. Source: WHATWG HTML, "Server-sent
// events".
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace llorch::net {

struct SseEvent {
  std::string id, type, data;  // type is "message" where the stream names none
};

/// `id` 0 and an empty `type` are left out. `data` is one line.
[[nodiscard]] std::string sse_frame(std::uint64_t id, std::string_view type, std::string_view data);

/// Takes bytes as they come; calls back once per event. Comments and unknown fields are passed over.
class SseParser {
 public:
  using Sink = std::function<void(const SseEvent&)>;
  static constexpr std::size_t kEventBytesMax = 16u << 20;
  explicit SseParser(Sink sink, std::size_t event_bytes_max = kEventBytesMax)
      : sink_(std::move(sink)), event_bytes_max_(event_bytes_max) {}
  /// False when a line or an event is longer than that; the stream is then not to be trusted further.
  [[nodiscard]] bool push(std::string_view bytes);
  /// True once `data: [DONE]` has come.
  [[nodiscard]] bool done() const { return done_; }

 private:
  void line(std::string_view text);
  Sink sink_;
  std::size_t event_bytes_max_;
  std::string line_, data_, type_, id_;
  bool had_data_ = false, after_cr_ = false, at_start_ = true, done_ = false;
};

}  // namespace llorch::net
