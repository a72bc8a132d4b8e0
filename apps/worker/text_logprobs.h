// The logprobs of a text completion: four parallel lists, of the prompt's tokens where it is echoed, then of the
// answer's. Source: OpenAI's completions API.
//
// Offsets are code points from the beginning of the choice's text. A control token that the text does not spell, and
// the space that a tokenizer puts before the first word, take no place in it. Threads: the event loop's.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "engine/text_emitter.h"
#include "text/tokenizer.h"

namespace llorch::worker {

class TextLogprobs {
 public:
  explicit TextLogprobs(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}

  /// The tokens that follow until end_echo() are a prompt's, whose text is this.
  void begin_echo(std::string text) { echo_ = std::move(text); }
  void end_echo();
  /// A token of the prompt. `score`: null for the first.
  void add_given(std::int32_t id, const Sampled* score);
  /// A token of the answer.
  void add(const TokenEvent& e);
  /// The echo's text up to the token that was added last, without what was taken before; after end_echo() its rest.
  [[nodiscard]] std::string take_echo();
  /// The lists, which are empty then.
  [[nodiscard]] boost::json::object take();
  [[nodiscard]] std::size_t size() const { return tokens_.size(); }

 private:
  void append(std::int32_t id, const Sampled* score);
  [[nodiscard]] std::size_t width_of(std::int32_t id) const;

  const Tokenizer* tokenizer_;
  std::string echo_;
  std::size_t echoed_ = 0, taken_ = 0;  // bytes of it
  std::size_t offset_ = 0;              // code points
  boost::json::array tokens_, values_, tops_, offsets_;
};

}  // namespace llorch::worker
