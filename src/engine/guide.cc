#include "engine/guide.h"

#include "text/utf8.h"

namespace llorch {
namespace {

/// The longest beginning that ends with a whole character.
std::string_view whole_characters(std::string_view text) {
  std::size_t end = 0;
  while (end < text.size()) {
    const int size = utf8_sequence(text.substr(end));
    if (size <= 0) break;
    end += static_cast<std::size_t>(size);
  }
  return text.substr(0, end);
}

}  // namespace

Guide::Guide(std::shared_ptr<Constraint> constraint, const Tokenizer& tokenizer)
    : constraint_(std::move(constraint)),
      tokenizer_(tokenizer),
      matcher_(constraint_),
      bits_(constraint_->vocabulary().mask_words()) {}

Result<std::span<const std::uint32_t>> Guide::allowed() {
  LLORCH_OK(matcher_.mask(bits_));
  return std::span<const std::uint32_t>(bits_);
}

/// Tokens of `text` that end within its first `settled` bytes. False: there were more.
bool Guide::cut(std::string_view text, std::size_t settled, TokenIds& out) const {
  text = whole_characters(text);
  const auto ids = tokenizer_.encode(text, {.continues = true});
  if (!ids) return false;
  std::size_t end = 0;
  for (const TokenId id : *ids) {
    const std::string_view bytes = constraint_->vocabulary().bytes(static_cast<std::uint32_t>(id));
    if (bytes.empty() || !text.substr(end).starts_with(bytes) || end + bytes.size() > settled) return false;
    out.push_back(id);
    end += bytes.size();
  }
  return end == settled;
}

TokenIds Guide::forced() {
  const std::string text = matcher_.forced();
  TokenIds out;
  if (text.empty()) return out;
  const std::size_t settled = matcher_.settled(text);
  for (std::size_t at = 0; at < settled;) {
    if (text[at] == kControlBegins) {
      const std::size_t end = text.find(kControlEnds, at);
      if (end == std::string::npos || end >= settled) break;
      const auto token = constraint_->vocabulary().find(std::string_view(text).substr(at, end + 1 - at));
      if (!token) break;
      out.push_back(static_cast<TokenId>(*token));
      at = end + 1;
      continue;
    }
    const std::size_t end = std::min(text.find(kControlBegins, at), text.size());
    if (!cut(std::string_view(text).substr(at, end - at), std::min(settled, end) - at, out)) break;
    at = end;
  }
  return out;
}

}  // namespace llorch
