// The events of a stream that a daemon answers with. The first thing that is wrong with it is kept, and nothing after
// it is believed. Threads: one.
#pragma once

#include <optional>
#include <utility>

#include "format/json.h"
#include "keeper/session.h"
#include "net/sse.h"

namespace llorch::keeper {

class EventReader {
 public:
  explicit EventReader(OnEvent on_event)
      : on_event_(std::move(on_event)), parser_([this](const net::SseEvent& e) { take(e); }) {}
  EventReader(const EventReader&) = delete;
  EventReader& operator=(const EventReader&) = delete;
  /// False: the stream is malformed.
  [[nodiscard]] bool push(std::string_view bytes) {
    if (flaw_) return false;
    if (!parser_.push(bytes)) flaw("is too long");
    bytes_ += bytes.size();
    return !flaw_;
  }
  /// Errors: kIo naming what is wrong and where, or that the end of the stream has not come.
  [[nodiscard]] Status finish() const {
    if (flaw_) return std::unexpected(*flaw_);
    if (parser_.done()) return {};
    return fail(ErrorCode::kIo, "STREAM_TRUNCATED: the stream ended without [DONE], after {} events and {} bytes",
                events_, bytes_);
  }

 private:
  void take(const net::SseEvent& e) {
    if (flaw_ || e.data == "[DONE]") return;
    const auto data = json::parse(e.data, "event");
    if (!data || !data->is_object()) return flaw("is no JSON object");
    ++events_;
    on_event_(e.type, data->get_object());
  }
  void flaw(std::string_view what) {
    flaw_ = Error{ErrorCode::kIo, fmt::format("STREAM_MALFORMED: event {} of the stream, behind byte {}, {}",
                                              events_ + 1, bytes_, what)};
  }

  OnEvent on_event_;
  net::SseParser parser_;
  std::optional<Error> flaw_;
  std::size_t events_ = 0, bytes_ = 0;  // events taken; bytes before the piece under way
};

}  // namespace llorch::keeper
