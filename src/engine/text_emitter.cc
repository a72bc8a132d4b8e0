#include "engine/text_emitter.h"

#include <algorithm>

namespace llorch {
namespace {

/// Length of the longest end of `text` that begins `stop` (but is not all of it).
std::size_t overlap(std::string_view text, std::string_view stop) {
  for (std::size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
    if (text.ends_with(stop.substr(0, n))) return n;
  return 0;
}

}  // namespace

std::vector<TokenEvent> TextEmitter::push(Sampled token, std::string_view bytes, bool stops) {
  held_.push_back({count_++, std::move(token), stream_.push(bytes)});
  held_text_ += held_.back().text;
  if (!stops) return release(held_text_.size(), false);
  std::size_t begin = std::string::npos;
  for (std::size_t i = 0; i < stops_.size(); ++i)
    if (const std::size_t at = held_text_.find(stops_[i]); at < begin) begin = at, matched_ = i;
  if (matched_) {  // cut the text behind the earliest match; its tokens keep their events
    std::size_t at = 0;
    for (TokenEvent& e : held_) {
      const std::size_t size = e.text.size();
      if (at + size > begin) e.text.resize(begin > at ? begin - at : 0);
      at += size;
    }
    held_text_.resize(begin);
    return release(begin, true);
  }
  std::size_t withheld = 0;
  for (const std::string& stop : stops_) withheld = std::max(withheld, overlap(held_text_, stop));
  return release(held_text_.size() - withheld, false);
}

std::vector<TokenEvent> TextEmitter::release(std::size_t safe_bytes, bool everything) {
  std::vector<TokenEvent> out;
  // A token whose code point is incomplete waits, unless later text has made it certain that it completes nothing
  // itself.
  while (!held_.empty() &&
         (everything || (held_.front().text.size() <= safe_bytes && !(held_.size() == 1 && stream_.pending())))) {
    safe_bytes -= std::min(safe_bytes, held_.front().text.size());
    held_text_.erase(0, held_.front().text.size());
    out.push_back(std::move(held_.front()));
    held_.pop_front();
  }
  return out;
}

std::vector<TokenEvent> TextEmitter::finish() {
  stream_.finish();
  return release(held_text_.size(), true);
}

}  // namespace llorch
