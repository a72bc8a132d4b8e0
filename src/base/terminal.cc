#include "base/terminal.h"

#include "base/status_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdarg>
#include <cstdint>
#include <vector>

namespace llorch {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD; none of its bytes is a control in any encoding

struct Character {
  std::size_t bytes = 0;  // that it takes; 0: its rest has not come yet
  char32_t code = 0;
  bool valid = false;
};

/// The character at the beginning of `text`, which is not empty. Strict: shortest form, no surrogates, at most
/// U+10FFFF.
Character first_character(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {1, lead, true};
  const std::size_t bytes = lead >= 0xC2 && lead < 0xE0   ? 2
                            : lead >= 0xE0 && lead < 0xF0 ? 3
                            : lead >= 0xF0 && lead < 0xF5 ? 4
                                                          : 0;
  if (bytes == 0) return {1, 0, false};
  auto code = static_cast<char32_t>(lead & (0x7F >> bytes));
  for (std::size_t i = 1; i < bytes; ++i) {
    if (i >= text.size()) return {0, 0, false};
    // The second byte decides on shortest form, surrogates and range.
    const unsigned char low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (at(i) < low || at(i) > high) return {i, 0, false};
    code = code << 6 | (at(i) & 0x3Fu);
  }
  return {bytes, code, true};
}

bool is_shown(char32_t c) {
  if (c == '\n' || c == '\t') return true;
  if (c < 0x20 || (c >= 0x7F && c < 0xA0)) return false;
  return !(c >= 0x202A && c <= 0x202E) && !(c >= 0x2066 && c <= 0x2069);
}

bool is_terminal(std::FILE* to) { return isatty(fileno(to)) == 1; }

}  // namespace

std::string TerminalCleaner::push(std::string_view piece) {
  std::string joined;
  if (!begun_.empty()) {
    joined = begun_ + std::string(piece);
    begun_.clear();
    piece = joined;
  }
  std::string out;
  out.reserve(piece.size());
  while (!piece.empty()) {
    if (piece.front() == '\r' && (piece.size() == 1 || piece[1] == '\n')) {  // the end of a line, or not known yet
      if (piece.size() == 1) begun_ = "\r";
      piece.remove_prefix(1);
      continue;
    }
    const Character c = first_character(piece);
    if (c.bytes == 0) {
      begun_ = piece;
      break;
    }
    out += c.valid && is_shown(c.code) ? piece.substr(0, c.bytes) : kReplacement;
    piece.remove_prefix(c.bytes);
  }
  return out;
}

std::string TerminalCleaner::finish() {
  const bool any = !begun_.empty();
  begun_.clear();
  return any ? std::string(kReplacement) : "";
}

std::string clean_for_terminal(std::string_view text) {
  TerminalCleaner cleaner;
  std::string out = cleaner.push(text);
  return out += cleaner.finish();
}

std::string clean_json_for_terminal(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  while (!json.empty()) {
    const Character c = first_character(json);
    const std::size_t bytes = c.bytes == 0 ? json.size() : c.bytes;
    if (!c.valid)
      out += kReplacement;
    else if (is_shown(c.code))
      out += json.substr(0, bytes);
    else
      out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c.code));  // it can only stand within a string
    json.remove_prefix(bytes);
  }
  return out;
}

void show_text(std::FILE* to, std::string_view text) {
  std::string clean;
  if (is_terminal(to)) {
    clear_status();
    text = clean = clean_for_terminal(text);
  }
  std::fwrite(text.data(), 1, text.size(), to);
}

void show_json(std::FILE* to, std::string_view json) {
  std::string clean;
  if (is_terminal(to)) {
    clear_status();
    json = clean = clean_json_for_terminal(json);
  }
  std::fwrite(json.data(), 1, json.size(), to);
  std::fputc('\n', to);
}

void show(std::FILE* to, const char* format, ...) {  // NOLINT(cert-dcl50-cpp): printf's, checked by the compiler
  std::array<char, 512> some{};
  std::va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  const int size = std::vsnprintf(some.data(), some.size(), format, arguments);
  va_end(arguments);
  if (size >= 0 && static_cast<std::size_t>(size) < some.size()) {
    show_text(to, {some.data(), static_cast<std::size_t>(size)});
  } else if (size >= 0) {
    std::vector<char> all(static_cast<std::size_t>(size) + 1);
    (void)std::vsnprintf(all.data(), all.size(), format, again);
    show_text(to, {all.data(), static_cast<std::size_t>(size)});
  }
  va_end(again);
}

ShownStream::ShownStream(std::FILE* to) : to_(to), terminal_(is_terminal(to)) {}

void ShownStream::add(std::string_view piece) {
  std::string clean;
  if (terminal_) {
    clear_status();
    piece = clean = cleaner_.push(piece);
  }
  std::fwrite(piece.data(), 1, piece.size(), to_);
  std::fflush(to_);
}

void ShownStream::end() {
  if (!terminal_) return;
  const std::string rest = cleaner_.finish();
  std::fwrite(rest.data(), 1, rest.size(), to_);
  std::fflush(to_);
}

}  // namespace llorch
