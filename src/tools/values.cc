#include "tools/values.h"

#include <algorithm>

#include "format/json.h"
#include "tools/blanks.h"
#include "tools/json_scanner.h"
#include "toolset/toolset.h"

namespace llorch::tools {
namespace {

constexpr int kDepthMax = 100;

/// Reads JSON, Python's literals, and the notation with quotes of its own, and writes JSON.
class Reader {
 public:
  Reader(std::string_view text, const Parameters* notation) : text_(text), notation_(notation) {}

  std::optional<std::string> run() {
    std::string out;
    if (!value(out, 0)) return std::nullopt;
    skip();
    if (at_ != text_.size()) return std::nullopt;
    return out;
  }

 private:
  void skip() { at_ = std::min(text_.find_first_not_of(kBlanks, at_), text_.size()); }
  [[nodiscard]] bool ahead(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  bool take(char c) { return at_ < text_.size() && text_[at_] == c && ++at_; }

  bool value(std::string& out, int depth) {
    skip();
    if (at_ == text_.size() || depth > kDepthMax) return false;
    if (notation_ && ahead(notation_->quote_open)) return quoted(out);
    const char c = text_[at_];
    if (c == '{' || c == '[') return container(out, c, depth);
    if (c == '"') return json_string(out);
    if (c == '\'') return python_string(out);
    const std::size_t end = std::min(text_.find_first_of(",]}) \t\r\n", at_), text_.size());
    const std::string_view word = text_.substr(at_, end - at_);
    at_ = end;
    return scalar(word, out);
  }

  bool scalar(std::string_view word, std::string& out) const {
    if (word == "None" || (notation_ && word == notation_->null_word))
      out += "null";
    else if (word == "True" || (notation_ && word == notation_->true_word))
      out += "true";
    else if (word == "False" || (notation_ && word == notation_->false_word))
      out += "false";
    else if (!word.empty() && word[0] != '"' && JsonScanner::end_of(word, 0) == word.size())
      out += word;
    else
      return false;
    return true;
  }

  bool quoted(std::string& out) {
    at_ += notation_->quote_open.size();
    const std::size_t end = text_.find(notation_->quote_close, at_);
    if (end == std::string_view::npos) return false;
    out += json_quoted(text_.substr(at_, end - at_));
    at_ = end + notation_->quote_close.size();
    return true;
  }

  bool json_string(std::string& out) {
    const std::size_t end = JsonScanner::end_of(text_, at_);
    if (end == std::string_view::npos) return python_string(out);
    out += text_.substr(at_, end - at_);
    at_ = end;
    return true;
  }

  bool python_string(std::string& out) {
    const char quote = text_[at_++];
    std::string plain;
    for (; at_ < text_.size() && text_[at_] != quote; ++at_) {
      if (text_[at_] != '\\') {
        plain += text_[at_];
        continue;
      }
      if (++at_ == text_.size()) return false;
      const std::size_t known = std::string_view("nrtabfv0").find(text_[at_]);
      plain += known == std::string_view::npos ? text_[at_] : std::string_view("\n\r\t\a\b\f\v\0", 8)[known];
    }
    out += json_quoted(plain);
    return take(quote);
  }

  bool key(std::string& out) {
    skip();
    if (notation_ && ahead(notation_->quote_open)) return quoted(out);
    if (ahead("\"")) return json_string(out);
    if (ahead("'")) return python_string(out);
    if (!notation_) return false;
    const std::size_t end = text_.find(':', at_);
    if (end == std::string_view::npos || end - at_ > kNameMax) return false;
    out += json_quoted(text_.substr(at_, end - at_));
    at_ = end;
    return true;
  }

  bool container(std::string& out, char open, int depth) {
    const char close = open == '{' ? '}' : ']';
    ++at_;
    out += open;
    for (bool first = true;; first = false) {
      skip();
      if (take(close)) break;
      if (!first) {
        if (!take(',')) return false;
        out += ", ";
      }
      if (open == '{') {
        if (!key(out)) return false;
        skip();
        if (!take(':')) return false;
        out += ": ";
      }
      if (!value(out, depth + 1)) return false;
    }
    out += close;
    return true;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  const Parameters* notation_;
};

std::uint8_t type_of_text(std::string_view value) {
  switch (value.front()) {
    case 'n': return kNullValue;
    case 't':
    case 'f': return kBooleanValue;
    case '"': return kStringValue;
    case '[': return kArrayValue;
    case '{': return kObjectValue;
    default: return kNumberValue;
  }
}

std::string_view without_blanks(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) + 1 - first);
}

}  // namespace

std::string json_of_raw(std::string_view text, std::uint8_t types) {
  if (types != kStringValue) {
    const std::string_view bare = without_blanks(text);
    std::optional<std::string> read;
    if (!bare.empty() && JsonScanner::end_of(bare, 0) == bare.size())
      read = bare;
    else
      read = Reader(bare, nullptr).run();
    // A string in quotes is one that has quotes, unless nothing says that strings are allowed.
    if (read && type_of_text(*read) != kStringValue && (types & type_of_text(*read))) return *read;
  }
  return json_quoted(text);
}

std::optional<std::string> json_of_notation(std::string_view text, const Parameters& p) {
  return Reader(text, &p).run();
}

JsonScanner::Step NotationScanner::feed(char c) {
  using Step = JsonScanner::Step;
  const std::string_view quote = quoted_ ? close_ : open_;
  begun_ += c;
  while (!begun_.empty() && !quote.starts_with(begun_)) {  // the byte that leaves is text
    const char text = begun_.front();
    begun_.erase(0, 1);
    if (quoted_) continue;
    if (any_ && depth_ == 0 && std::string_view(",]}) \t\r\n").contains(text)) return Step::kBehind;
    any_ = any_ || !kBlanks.contains(text);
    if (text == '{' || text == '[') {
      if (++depth_ > kDepthMax) return Step::kBad;
    } else if (text == '}' || text == ']') {
      if (--depth_ == 0) return Step::kDone;
      if (depth_ < 0) return Step::kBad;
    }
  }
  if (begun_ != quote) return Step::kMore;
  begun_.clear();
  any_ = true, quoted_ = !quoted_;
  return !quoted_ && depth_ == 0 ? Step::kDone : Step::kMore;
}

}  // namespace llorch::tools
