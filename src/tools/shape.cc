#include "tools/shape.h"

#include <algorithm>

#include "tools/blanks.h"
#include "tools/probe.h"

namespace llorch::tools {
namespace {

bool inside_character(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80;
}
bool word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
}
bool closing(char c) { return std::string_view(">])}|").contains(c) || kBlanks.contains(c); }
bool hole(char c) { return c == probe::kNameMark || c == probe::kIdMark; }

/// What comes behind the arguments, without the end of the message.
std::string_view block_end(const Around& a, std::string_view before) {
  const std::string_view after = a.after, end = a.end_of_message;
  if (after.ends_with(end)) return after.substr(0, after.size() - end.size());
  if (a.step && a.step->ends_with(before)) {  // another block follows: what both share is this one's end
    const std::string_view step = *a.step;
    return after.substr(0, shared_front(step.substr(0, step.size() - before.size()), after));
  }
  return after.substr(0, after.size() - shared_end(after, end));
}

}  // namespace

std::size_t shared_front(std::string_view a, std::string_view b) {
  std::size_t n = 0;
  while (n < a.size() && n < b.size() && a[n] == b[n]) ++n;
  while (n > 0 && (inside_character(a, n) || inside_character(b, n))) --n;
  return n;
}

std::size_t shared_end(std::string_view a, std::string_view b) {
  std::size_t n = 0;
  while (n < a.size() && n < b.size() && a[a.size() - 1 - n] == b[b.size() - 1 - n]) ++n;
  while (n > 0 && inside_character(a, a.size() - n)) --n;
  return n;
}

std::string_view without_leading_blanks(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kBlanks), text.size()));
}

Pieces pieces_of(std::string_view text) {
  Pieces out;
  std::string plain;
  const auto flush = [&] {
    if (!plain.empty()) out.push_back({Piece::Kind::kText, std::move(plain)});
    plain.clear();
  };
  for (const char c : text) {
    if (!hole(c)) {
      plain += c;
      continue;
    }
    flush();
    out.push_back({c == probe::kNameMark ? Piece::Kind::kName : Piece::Kind::kId, {}});
  }
  flush();
  return out;
}

void split_block(const Around& a, ToolFormat& f) {
  const std::string_view before = without_leading_blanks(a.before);
  f.lead = a.before.substr(0, a.before.size() - before.size());
  const std::string_view after = block_end(a, before);
  std::string_view head = before, tail = after;
  if (a.step && a.step->size() >= before.size() + after.size() && a.step->starts_with(after) &&
      a.step->ends_with(before)) {
    f.between = a.step->substr(after.size(), a.step->size() - before.size() - after.size());
  } else if (a.step) {
    const std::string_view step = *a.step;
    head = before.substr(before.size() - shared_end(before, step));
    while (!head.empty() && closing(head.front())) head.remove_prefix(1);
    const std::string_view rest = step.substr(0, step.size() - head.size());
    std::size_t cut = shared_front(rest, after);
    if (cut < rest.size() && cut < after.size()) {  // the texts part in the middle of a word: go back to its beginning
      std::size_t back = cut;
      while (back > 0 && !closing(rest[back - 1])) --back;
      if (back > 0) cut = back;
    }
    tail = after.substr(0, cut);
    f.open = before.substr(0, before.size() - head.size());
    f.between = rest.substr(cut);
    f.close = after.substr(cut);
  }
  f.call = pieces_of(head);
  f.call.push_back({Piece::Kind::kArguments, {}});
  for (Piece& p : pieces_of(tail)) f.call.push_back(std::move(p));
}

std::size_t value_end(const ValueEnds& e) {
  const std::size_t most = shared_front(e.next, e.last);
  const std::size_t least = std::min(
      most, std::max(e.next.size() - shared_end(e.before, e.next), e.last.size() - shared_end(e.none, e.last)));
  if (least == 0) return 0;
  for (std::size_t n = least; n <= most; ++n)
    if (!word(e.next[n - 1]) && !kBlanks.contains(e.next[n - 1]) && !inside_character(e.next, n)) return n;
  return least;
}

}  // namespace llorch::tools
