#include "tools/json_scanner.h"

#include "base/utf8.h"
#include "tools/blanks.h"

namespace llorch::tools {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }
constexpr std::size_t kNumberMax = 400;  // digits

bool is_number(std::string_view t) {
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t from = i;
    while (i < t.size() && digit(t[i])) ++i;
    return i > from;
  };
  if (i < t.size() && t[i] == '-') ++i;
  const std::size_t whole = i;
  if (!digits() || (t[whole] == '0' && i > whole + 1)) return false;
  if (i < t.size() && t[i] == '.' && (++i, !digits())) return false;
  if (i < t.size() && (t[i] == 'e' || t[i] == 'E')) {
    ++i;
    if (i < t.size() && (t[i] == '+' || t[i] == '-')) ++i;
    if (!digits()) return false;
  }
  return i == t.size();
}

}  // namespace

JsonScanner::Step JsonScanner::closed() {
  if (open_.empty()) return Step::kDone;
  state_ = State::kAfter;
  return Step::kMore;
}

JsonScanner::Step JsonScanner::number(char c) {
  if (digit(c) || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E') {
    number_ += c;
    return number_.size() > kNumberMax ? bad() : Step::kMore;
  }
  if (!is_number(number_)) return bad();
  if (open_.empty()) return Step::kBehind;
  state_ = State::kAfter;
  return feed(c);
}

JsonScanner::Step JsonScanner::value(char c) {
  if (c == '{' || c == '[') {
    if (open_.size() >= kDepthMax) return bad();
    open_ += c;
    state_ = c == '{' ? State::kFirstKey : State::kFirstItem;
    return Step::kMore;
  }
  if (c == '"') return key_ = false, state_ = State::kString, Step::kMore;
  if (digit(c) || c == '-') return number_ = c, state_ = State::kNumber, Step::kMore;
  word_ = c == 't' ? "rue" : c == 'f' ? "alse" : c == 'n' ? "ull" : "";
  if (word_.empty()) return bad();
  return state_ = State::kWord, Step::kMore;
}

JsonScanner::Step JsonScanner::feed(char c) {
  switch (state_) {
    case State::kString:
      if (c == '\\') return state_ = State::kEscape, Step::kMore;
      if (c == '"') return key_ ? (state_ = State::kColon, Step::kMore) : closed();
      return static_cast<unsigned char>(c) < 0x20 ? bad() : Step::kMore;
    case State::kEscape:
      if (c == 'u') return hex_left_ = 4, state_ = State::kHex, Step::kMore;
      state_ = State::kString;
      return std::string_view("\"\\/bfnrt").contains(c) ? Step::kMore : bad();
    case State::kHex:
      if (!digit(c) && !(c >= 'a' && c <= 'f') && !(c >= 'A' && c <= 'F')) return bad();
      if (--hex_left_ == 0) state_ = State::kString;
      return Step::kMore;
    case State::kNumber: return number(c);
    case State::kWord:
      if (c != word_.front()) return bad();
      word_.remove_prefix(1);
      return word_.empty() ? closed() : Step::kMore;
    case State::kBad: return Step::kBad;
    default: break;
  }
  if (is_blank(c)) return Step::kMore;
  switch (state_) {
    case State::kFirstItem:
      if (c == ']') return open_.pop_back(), closed();
      return value(c);
    case State::kFirstKey:
      if (c == '}') return open_.pop_back(), closed();
      [[fallthrough]];
    case State::kKey: return c == '"' ? (key_ = true, state_ = State::kString, Step::kMore) : bad();
    case State::kColon: return c == ':' ? (state_ = State::kValue, Step::kMore) : bad();
    case State::kAfter:
      if (c == ',') return state_ = open_.back() == '{' ? State::kKey : State::kValue, Step::kMore;
      if (c != (open_.back() == '{' ? '}' : ']')) return bad();
      return open_.pop_back(), closed();
    default: return value(c);
  }
}

std::size_t JsonScanner::end_of(std::string_view text, std::size_t at) {
  JsonScanner scanner;
  for (; at < text.size(); ++at) switch (scanner.feed(text[at])) {
      case Step::kDone: return at + 1;
      case Step::kBehind: return at;
      case Step::kBad: return std::string_view::npos;
      case Step::kMore: break;
    }
  return scanner.feed(' ') == Step::kBehind ? at : std::string_view::npos;
}

std::string JsonScanner::closed_off(std::string_view text) {
  JsonScanner scanner;
  std::size_t whole = 0;
  std::string open;
  const auto mark = [&](std::size_t at) { whole = at, open = scanner.open_; };
  std::size_t at = 0;
  for (; at < text.size(); ++at) {
    const bool number = scanner.state_ == State::kNumber;
    const Step step = scanner.feed(text[at]);
    if (step == Step::kDone) mark(at + 1);
    if (step != Step::kMore) break;
    if (scanner.state_ == State::kAfter || scanner.state_ == State::kFirstKey || scanner.state_ == State::kFirstItem)
      mark(at + 1);
    else if (number && scanner.state_ != State::kNumber)  // a comma
      mark(at);
  }
  if (at == text.size() && scanner.state_ == State::kNumber && is_number(scanner.number_)) mark(at);
  if (whole == 0 || !text.starts_with('{')) return "{}";
  std::string out(text.substr(0, whole));
  for (; !open.empty(); open.pop_back()) out += open.back() == '{' ? '}' : ']';
  return out;
}

void append_json_escaped(std::string& out, std::string_view text) {
  constexpr std::string_view kShort = "\b\f\n\r\t", kNames = "bfnrt", kHex = "0123456789abcdef";
  while (!text.empty()) {
    const char c = text.front();
    if (static_cast<unsigned char>(c) >= 0x80) {
      const int size = utf8_sequence(text);
      out += size > 0 ? text.substr(0, static_cast<std::size_t>(size)) : std::string_view("\xef\xbf\xbd");
      text.remove_prefix(size > 0 ? static_cast<std::size_t>(size) : 1);
      continue;
    }
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (const std::size_t known = kShort.find(c); known != kShort.npos)
      out += {'\\', kNames[known]};
    else if (static_cast<unsigned char>(c) < 0x20)
      out += {'\\', 'u', '0', '0', kHex[static_cast<unsigned char>(c) >> 4], kHex[c & 15]};
    else
      out += c;
    text.remove_prefix(1);
  }
}

std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  append_json_escaped(out, text);
  return out += '"';
}

}  // namespace llorch::tools
