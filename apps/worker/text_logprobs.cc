#include "worker/text_logprobs.h"

#include <algorithm>
#include <utility>

#include "worker/inference.h"

namespace llorch::worker {
namespace {

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

/// Bytes of the echo's text that a token of the prompt stands for.
std::size_t TextLogprobs::width_of(std::int32_t id) const {
  const std::string_view piece = tokenizer_->piece(id, true), rest = std::string_view(echo_).substr(echoed_);
  if (rest.starts_with(piece)) return piece.size();
  if (piece.starts_with(' ') && rest.starts_with(piece.substr(1))) return piece.size() - 1;
  if (tokenizer_->piece(id).empty()) return 0;
  return std::min(piece.size(), rest.size());
}

void TextLogprobs::append(std::int32_t id, const Sampled* score) {
  tokens_.push_back(boost::json::string(token_text(*tokenizer_, id)));
  offsets_.push_back(offset_);
  values_.push_back(score ? boost::json::value(finite_logprob(score->logprob)) : nullptr);
  if (!score) return tops_.push_back(nullptr);
  boost::json::object top;  // of tokens with one spelling, the likelier
  for (const TokenLogprob& t : score->top) top.emplace(token_text(*tokenizer_, t.id), finite_logprob(t.logprob));
  tops_.push_back(std::move(top));
}

void TextLogprobs::add_given(std::int32_t id, const Sampled* score) {
  append(id, score);
  const std::size_t width = width_of(id);
  offset_ += code_points(std::string_view(echo_).substr(echoed_, width));
  echoed_ += width;
}

void TextLogprobs::end_echo() {
  offset_ = code_points(echo_);
  echoed_ = echo_.size();
}

void TextLogprobs::add(const TokenEvent& e) {
  append(e.token.id, &e.token);
  offset_ += code_points(tokenizer_->piece(e.token.id));
}

std::string TextLogprobs::take_echo() {
  // A character whose bytes are several tokens' goes with the last of them.
  std::size_t end = echoed_;
  while (end > taken_ && end < echo_.size() && (static_cast<unsigned char>(echo_[end]) & 0xC0) == 0x80) --end;
  std::string part = echo_.substr(taken_, end - taken_);
  taken_ = end;
  return part;
}

boost::json::object TextLogprobs::take() {
  return {{"tokens", std::exchange(tokens_, {})},
          {"token_logprobs", std::exchange(values_, {})},
          {"top_logprobs", std::exchange(tops_, {})},
          {"text_offset", std::exchange(offsets_, {})}};
}

}  // namespace llorch::worker
