// Turns sampled tokens into events: never splits a code point, never lets a byte of a stop string out (E-38, J-34,
// J-35).
//
// Events are withheld while a code point is incomplete or a stop string may still match, then released in order; each
// token has exactly one event, whose text is what that token completed. Joining all texts gives the decoded text up to
// the stop string.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sample/sampler.h"
#include "text/utf8.h"

namespace llorch {

struct TokenEvent {
  int index = 0;  // from 0
  Sampled token;
  std::string text;
};

class TextEmitter {
 public:
  explicit TextEmitter(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Takes a token and its bytes; returns the events that may go out now. After a match no further token may be pushed.
  /// `stops`: whether a stop string may match here; where not, what was withheld for one goes out, too.
  [[nodiscard]] std::vector<TokenEvent> push(Sampled token, std::string_view bytes, bool stops = true);
  /// Releases what is withheld, at the end of an answer.
  [[nodiscard]] std::vector<TokenEvent> finish();

  /// Index of the stop string that matched.
  [[nodiscard]] std::optional<std::size_t> matched() const { return matched_; }
  [[nodiscard]] const std::string& undecoded() const { return stream_.undecoded(); }

 private:
  std::vector<TokenEvent> release(std::size_t safe_bytes, bool everything);

  std::vector<std::string> stops_;
  Utf8Stream stream_;
  std::deque<TokenEvent> held_;
  std::string held_text_;  // the texts of held_, joined
  int count_ = 0;
  std::optional<std::size_t> matched_;
};

}  // namespace llorch
