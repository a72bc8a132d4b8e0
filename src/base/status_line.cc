#include "base/status_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>

#include "base/terminal.h"

namespace llorch {
namespace {

constexpr const char *kDim = "\033[2m", *kPlain = "\033[0m", *kClearLine = "\r\033[K";

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::size_t width_of_stderr() {
  constexpr std::size_t kUsual = 80;
  const std::size_t columns = columns_of_terminal(stderr);
  return columns > 0 ? columns : kUsual;
}

/// Of a character by its first bytes: East Asian scripts and emoji take two.
bool is_wide(std::string_view at) {
  const auto byte = [&](std::size_t i) { return i < at.size() ? static_cast<unsigned char>(at[i]) : 0u; };
  const unsigned lead = byte(0);
  if (lead >= 0xF0) return true;  // beyond U+FFFF: mostly emoji and ideographs
  if (lead < 0xE1) return false;  // below U+1000
  const unsigned code = (lead & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
  return (code >= 0x1100 && code <= 0x115F) || (code >= 0x2E80 && code <= 0xA4CF) ||
         (code >= 0xAC00 && code <= 0xD7A3) || (code >= 0xF900 && code <= 0xFAFF) || (code >= 0xFF00 && code <= 0xFF60);
}

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xC0u) == 0x80u; }

class Line {
 public:
  ~Line() { keep(); }
  void draw(const std::string& text) {
    std::fputs(kClearLine, stderr);
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
    drawn_ = true;
  }
  void clear() {
    if (!drawn_) return;
    drawn_ = false;
    std::fputs(kClearLine, stderr);
    std::fflush(stderr);
  }
  void keep() {
    if (!drawn_) return;
    drawn_ = false;
    std::fputc('\n', stderr);
    std::fflush(stderr);
  }

 private:
  bool drawn_ = false;
};

Line& line() {
  static Line one;
  return one;
}

}  // namespace

std::size_t columns_of_terminal(std::FILE* to) {
  winsize size{};
  return ioctl(fileno(to), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

bool can_move_cursor(std::FILE* to) {
  const std::string_view term = variable("TERM");
  return isatty(fileno(to)) == 1 && !term.empty() && term != "dumb";
}

bool can_dim(std::FILE* to) { return can_move_cursor(to) && variable("NO_COLOR").empty(); }

std::string dimmed(std::FILE* to, std::string_view text) {
  return can_dim(to) ? fmt::format("{}{}{}", kDim, text, kPlain) : std::string(text);
}

void show_dim_line(std::FILE* to, std::string_view text) {
  const bool terminal = isatty(fileno(to)) == 1;
  if (terminal) clear_status();
  const std::string line = dimmed(to, terminal ? clean_for_terminal(text) : std::string(text)) + "\n";
  std::fwrite(line.data(), 1, line.size(), to);
}

std::size_t columns_of(std::string_view text) {
  std::size_t columns = 0;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (!continues_character(text[i])) columns += is_wide(text.substr(i)) ? 2 : 1;
  return columns;
}

std::string_view cut_to_columns(std::string_view text, std::size_t columns) {
  std::size_t used = 0, i = 0;
  for (; i < text.size(); ++i) {
    if (continues_character(text[i])) continue;
    if (static_cast<unsigned char>(text[i]) < 0x20) break;
    used += is_wide(text.substr(i)) ? 2 : 1;
    if (used > columns) break;
  }
  return text.substr(0, i);
}

void show_status(std::string_view text) {
  if (!can_move_cursor(stderr)) return;
  // The last column stays free: a cursor behind it would be on the next line.
  const std::string clean = clean_for_terminal(text);
  line().draw(dimmed(stderr, cut_to_columns(clean, width_of_stderr() - 1)));
}

void clear_status() { line().clear(); }

void keep_status() { line().keep(); }

}  // namespace llorch
