#include <fmt/format.h>

#include <array>

#include "jinja/limits.h"
#include "jinja/syntax.h"
#include "text/utf8.h"

namespace llorch::jinja {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || (c >= 9 && c <= 13); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) {
    for (std::size_t i = 0; i < source.size(); ++i)
      if (source[i] == '\r') {
        text_ += '\n';
        if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      } else {
        text_ += source[i];
      }
    if (text_.ends_with('\n')) text_.pop_back();
  }

  std::vector<Token> run() {
    while (at_ < text_.size()) plain();
    add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[nodiscard]] bool here(std::string_view what) const { return std::string_view(text_).substr(at_).starts_with(what); }
  [[noreturn]] void stop(std::string_view why) const { throw Failure{fmt::format("line {}: {}", line_, why)}; }
  void add(Token::Kind kind, std::string text) {
    if (tokens_.size() >= kTokensMax) stop("the template is too long");
    tokens_.push_back({kind, std::move(text), line_});
  }
  void advance(std::size_t count) {
    for (; count > 0 && at_ < text_.size(); --count) line_ += text_[at_++] == '\n';
  }

  /// Text up to the next tag, then that tag.
  void plain() {
    std::size_t open = at_;
    for (;; ++open) {
      open = text_.find('{', open);
      if (open == std::string::npos || open + 1 >= text_.size()) {
        open = std::string::npos;
        break;
      }
      if (const char c = text_[open + 1]; c == '{' || c == '%' || c == '#') break;
    }
    std::string text = text_.substr(at_, open == std::string::npos ? open : open - at_);
    const std::size_t length = text.size();
    if (open == std::string::npos) {
      if (!text.empty()) add(Token::Kind::kText, std::move(text));
      return advance(length);
    }
    const char kind = text_[open + 1], sign = open + 2 < text_.size() ? text_[open + 2] : ' ';
    if (sign == '-') {
      while (!text.empty() && is_blank(text.back())) text.pop_back();
    } else if (sign != '+' && kind != '{') {
      const std::size_t line_start = text.rfind('\n') + 1;  // npos + 1 == 0
      if ((line_start > 0 || line_starts_) && text.find_first_not_of(" \t\v\f", line_start) == std::string::npos)
        text.resize(line_start);
    }
    if (!text.empty()) add(Token::Kind::kText, std::move(text));
    advance(length + 2);
    if (at_ < text_.size() && (sign == '-' || (sign == '+' && kind != '{'))) advance(1);
    if (kind == '#') return comment();
    inside(kind);
  }

  void after_tag(char sign, bool block) {
    line_starts_ = false;
    if (sign == '-') {
      while (at_ < text_.size() && is_blank(text_[at_])) line_starts_ = text_[at_] == '\n', advance(1);
    } else if (block && sign != '+' && at_ < text_.size() && text_[at_] == '\n') {
      advance(1);
      line_starts_ = true;
    }
  }

  void comment() {
    const std::size_t end = text_.find("#}", at_);
    if (end == std::string::npos) stop("a comment is not closed");
    const char sign = end > at_ ? text_[end - 1] : ' ';
    advance(end + 2 - at_);
    after_tag(sign, true);
  }

  void inside(char kind) {
    const bool block = kind == '%';
    add(block ? Token::Kind::kOpenBlock : Token::Kind::kOpenPrint, "");
    const std::string_view close = block ? "%}" : "}}";
    int depth = 0;
    const std::size_t first = tokens_.size();
    while (true) {
      while (at_ < text_.size() && is_blank(text_[at_])) advance(1);
      if (at_ >= text_.size()) stop("a tag is not closed");
      const char c = text_[at_];
      if (depth == 0) {
        const bool signed_close =
            (c == '-' || (c == '+' && block)) && std::string_view(text_).substr(at_ + 1).starts_with(close);
        if (signed_close || here(close)) {
          advance(close.size() + (signed_close ? 1 : 0));
          const bool raw = block && tokens_.size() == first + 1 && tokens_.back().text == "raw";
          add(block ? Token::Kind::kCloseBlock : Token::Kind::kClosePrint, "");
          after_tag(signed_close ? c : ' ', block);
          if (raw) raw_text(first);
          return;
        }
      }
      if (is_letter(c))
        name();
      else if (is_digit(c))
        number();
      else if (c == '"' || c == '\'')
        string();
      else
        sign(depth);
    }
  }

  /// {% raw %} has been read, its tokens from `first` - 1 on: the text up to {% endraw %} replaces them.
  void raw_text(std::size_t first) {
    tokens_.resize(first - 1);
    for (std::size_t open = at_;; ++open) {
      open = text_.find("{%", open);
      if (open == std::string::npos) stop("raw is not closed");
      std::size_t i = open + 2;
      const bool strip_before = i < text_.size() && text_[i] == '-';
      if (strip_before) ++i;
      while (i < text_.size() && is_blank(text_[i])) ++i;
      if (!std::string_view(text_).substr(i).starts_with("endraw")) continue;
      i += 6;
      while (i < text_.size() && is_blank(text_[i])) ++i;
      const char sign = i < text_.size() ? text_[i] : ' ';
      if (sign == '-' || sign == '+') ++i;
      if (!std::string_view(text_).substr(i).starts_with("%}")) continue;
      std::string text = text_.substr(at_, open - at_);
      while (strip_before && !text.empty() && is_blank(text.back())) text.pop_back();
      add(Token::Kind::kText, std::move(text));
      advance(i + 2 - at_);
      return after_tag(sign, true);
    }
  }

  void name() {
    std::size_t end = at_;
    while (end < text_.size() && (is_letter(text_[end]) || is_digit(text_[end]))) ++end;
    add(Token::Kind::kName, text_.substr(at_, end - at_));
    advance(end - at_);
  }

  void number() {
    std::size_t end = at_;
    bool real = false;
    const auto digits = [&] {
      while (end < text_.size() && (is_digit(text_[end]) || text_[end] == '_')) ++end;
    };
    digits();
    if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1])) real = true, ++end, digits();
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      std::size_t exponent = end + 1;
      if (exponent < text_.size() && (text_[exponent] == '+' || text_[exponent] == '-')) ++exponent;
      if (exponent < text_.size() && is_digit(text_[exponent])) real = true, end = exponent, digits();
    }
    std::string text = text_.substr(at_, end - at_);
    std::erase(text, '_');
    add(real ? Token::Kind::kFloat : Token::Kind::kInteger, std::move(text));
    advance(end - at_);
  }

  void string() {
    const char quote = text_[at_];
    std::string out;
    std::size_t i = at_ + 1;
    for (; i < text_.size() && text_[i] != quote; ++i)
      if (text_[i] == '\\' && i + 1 < text_.size())
        i = escape(i + 1, out);
      else
        out += text_[i];
    if (i >= text_.size()) stop("a string is not closed");
    add(Token::Kind::kString, std::move(out));
    advance(i + 1 - at_);
  }

  /// The escape whose letter stands at `i`; returns the position of its last character.
  std::size_t escape(std::size_t i, std::string& out) const {
    static constexpr std::string_view kLetters = "ntr\\'\"abfv0", kMeanings = "\n\t\r\\'\"\a\b\f\v";
    const char c = text_[i];
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      std::uint32_t code = 0;
      for (std::size_t k = 1; k <= digits; ++k) {
        const std::size_t value =
            i + k < text_.size() ? std::string_view("0123456789abcdef")
                                       .find(static_cast<char>(std::tolower(static_cast<unsigned char>(text_[i + k]))))
                                 : std::string::npos;
        if (value == std::string::npos) stop("a string has a broken escape");
        code = code * 16 + static_cast<std::uint32_t>(value);
      }
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) stop("a string has an escape that is no character");
      utf8_append(out, static_cast<char32_t>(code));
      return i + digits;
    }
    if (c == '\n') return i;
    const std::size_t letter = kLetters.find(c);
    if (letter == std::string_view::npos)
      (out += '\\') += c;
    else
      out += c == '0' ? '\0' : kMeanings[letter];
    return i;
  }

  void sign(int& depth) {
    static constexpr std::array<std::string_view, 6> kTwo{"==", "!=", "<=", ">=", "//", "**"};
    for (const std::string_view two : kTwo)
      if (here(two)) {
        add(Token::Kind::kOperator, std::string(two));
        return advance(2);
      }
    const char c = text_[at_];
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos)
      stop("a character that means nothing here");
    depth += c == '(' || c == '[' || c == '{';
    depth -= c == ')' || c == ']' || c == '}';
    add(Token::Kind::kOperator, std::string(1, c));
    advance(1);
  }

  std::string text_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace llorch::jinja
