// What the queen must know of a worker's stream that she passes on: whether it has come to its end, and how many tokens
// it has brought. She keeps its last bytes only.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace llorch::queen {

/// Tokens that an answer says it has generated, in the way of OpenAI, Anthropic or Ollama; nothing where it does not
/// say.
[[nodiscard]] std::optional<std::int64_t> tokens_of(const boost::json::object& answer);

class AnswerStream {
 public:
  /// `lines`: the stream is lines of JSON, of which the last says that it is; else it is server-sent events.
  explicit AnswerStream(bool lines = false) : lines_(lines) {}

  /// The next bytes. Returns how many tokens they bring: nearly all events that say a part of the answer bring one.
  std::int64_t add(std::string_view bytes);
  [[nodiscard]] bool lines() const { return lines_; }
  [[nodiscard]] bool empty() const { return tail_.empty(); }
  [[nodiscard]] bool ends_with(std::string_view text) const { return tail_.ends_with(text); }
  /// The worker says itself that its answer is whole.
  [[nodiscard]] bool whole() const;
  /// The worker has said itself why its stream ends.
  [[nodiscard]] bool tells_error() const;
  /// What is to be added to the tokens that add() has counted, once the stream is over and tells how many there were.
  [[nodiscard]] std::int64_t correction() const;

 private:
  [[nodiscard]] std::string_view last_event() const;
  [[nodiscard]] std::string_view last_line() const;
  [[nodiscard]] std::optional<std::int64_t> told() const;

  bool lines_;
  std::string tail_;
  std::int64_t counted_ = 0;
};

}  // namespace llorch::queen
