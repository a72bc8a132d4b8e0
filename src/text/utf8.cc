#include "text/utf8.h"

#include <utf8proc.h>

namespace llorch {
namespace {
std::uint8_t byte_at(std::string_view text, std::size_t i) { return static_cast<std::uint8_t>(text[i]); }
}  // namespace

char32_t utf8_code_point(std::string_view text, int length) {
  if (length == 1) return byte_at(text, 0);
  char32_t c = byte_at(text, 0) & (0xff >> (length + 1));
  for (int i = 1; i < length; ++i) c = c << 6 | (byte_at(text, static_cast<std::size_t>(i)) & 0x3f);
  return c;
}

void utf8_append(std::string& out, char32_t c) {
  const auto put = [&](char32_t b) { out.push_back(static_cast<char>(b)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | c >> 6), put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | c >> 18), put(0x80 | (c >> 12 & 0x3f)), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
  }
}

bool is_white_space(char32_t c) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return (c >= 9 && c <= 13) || c == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const int n = utf8_sequence(rest);
    if (n < 0) break;
    const std::size_t take = n == 0 ? 1 : static_cast<std::size_t>(n);
    (n == 0 ? undecoded_ : out) += rest.substr(0, take);
    rest.remove_prefix(take);
  }
  pending_ = std::string(rest);
  return out;
}

void Utf8Stream::finish() {
  undecoded_ += pending_;
  pending_.clear();
}

}  // namespace llorch
