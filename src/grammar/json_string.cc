#include "grammar/json_string.h"

#include <algorithm>

namespace llorch {
namespace {

constexpr std::string_view kShort = "\b\f\n\r\t", kShortNames = "bfnrt", kHex = "0123456789abcdef";

void add_hex(Network& net, NetState from, std::string_view digits, NetState to) {
  for (const char c : digits) {
    net.add_edge(from, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), to);
    if (c >= 'a') net.add_edge(from, static_cast<std::uint8_t>(c - 32), static_cast<std::uint8_t>(c - 32), to);
  }
}

/// Four hexadecimal digits of a code unit whose first two are `first` and one of `second`.
void add_unit(Network& net, NetState from, std::string_view first, std::string_view second, NetState to) {
  const NetState a = net.add_state(), b = net.add_state(), c = net.add_state();
  add_hex(net, from, first, a);
  add_hex(net, a, second, b);
  add_hex(net, b, kHex, c);
  add_hex(net, c, kHex, to);
}

void add_raw(Network& net, NetState from, NetState to) {
  net.add_code_points(from, 0x20, 0x21, to);
  net.add_code_points(from, 0x23, 0x5b, to);
  net.add_code_points(from, 0x5d, 0x10ffff, to);
}

/// \u00xx from the state behind the backslash, for controls that have no letter.
void add_control_units(Network& net, NetState escape, char32_t low, char32_t high, NetState to) {
  NetState zero[2] = {kNone, kNone}, base = kNone;
  for (char32_t c = low; c <= high && c < 0x20; ++c) {
    if (kShort.find(static_cast<char>(c)) != kShort.npos) continue;
    if (base == kNone) base = net.add_literal(escape, "u00");
    NetState& tens = zero[c >> 4];
    if (tens == kNone) tens = net.add_literal(base, c >> 4 ? "1" : "0");
    const auto digit = static_cast<std::uint8_t>(kHex[c & 15]);
    net.add_edge(tens, digit, digit, to);
  }
}

}  // namespace

void add_free_character(Network& net, NetState from, NetState to) {
  add_raw(net, from, to);
  const NetState escape = net.add_literal(from, "\\"), unit = net.add_literal(escape, "u");
  for (const char c : std::string_view("\"\\/bfnrt"))
    net.add_edge(escape, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), to);
  add_unit(net, unit, "0123456789abcef", kHex, to);
  const NetState rest = net.add_state(), low = net.add_state(), second = net.add_state();
  add_hex(net, unit, "d", rest);
  const NetState tail = net.add_state(), last = net.add_state();
  add_hex(net, rest, "01234567", tail);
  add_hex(net, tail, kHex, last);
  add_hex(net, last, kHex, to);
  const NetState high_tail = net.add_state(), high_last = net.add_state();  // a pair: \ud8xx\udcxx
  add_hex(net, rest, "89ab", high_tail);
  add_hex(net, high_tail, kHex, high_last);
  add_hex(net, high_last, kHex, low);
  const NetState pair = net.add_literal(low, "\\u");
  add_hex(net, pair, "d", second);
  const NetState low_tail = net.add_state(), low_last = net.add_state();
  add_hex(net, second, "cdef", low_tail);
  add_hex(net, low_tail, kHex, low_last);
  add_hex(net, low_last, kHex, to);
}

void add_plain_character(Network& net, NetState from, NetState to) { add_plain_characters(net, from, 0, 0x10ffff, to); }

void add_plain_characters(Network& net, NetState from, char32_t low, char32_t high, NetState to) {
  const auto raw = [&](char32_t first, char32_t last) {
    const char32_t a = std::max(low, first), b = std::min(high, last);
    if (a <= b) net.add_code_points(from, a, b, to);
  };
  raw(0x20, 0x21), raw(0x23, 0x5b), raw(0x5d, 0x10ffff);
  const auto holds = [&](char32_t c) { return low <= c && c <= high; };
  if (low >= 0x20 && !holds('"') && !holds('\\')) return;
  const NetState escape = net.add_literal(from, "\\");
  for (const char c : std::string_view("\"\\"))
    if (holds(static_cast<char32_t>(c)))
      net.add_edge(escape, static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c), to);
  for (std::size_t i = 0; i < kShort.size(); ++i) {
    const auto name = static_cast<std::uint8_t>(kShortNames[i]);
    if (holds(static_cast<char32_t>(kShort[i]))) net.add_edge(escape, name, name, to);
  }
  if (low < 0x20) add_control_units(net, escape, low, std::min<char32_t>(high, 0x1f), to);
}

NetState add_string_body(Network& net, StringBody body, NetState to) {
  const NetState inside = net.add_state();
  if (body == StringBody::kFree)
    add_free_character(net, inside, inside);
  else
    add_plain_character(net, inside, inside);
  net.add_edge(inside, '"', '"', to);
  net.set_body(inside, body);
  return inside;
}

std::string plain_spelling(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const std::size_t letter = kShort.find(c);
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (letter != kShort.npos)
      out += {'\\', kShortNames[letter]};
    else if (static_cast<std::uint8_t>(c) < 0x20)
      out += {'\\', 'u', '0', '0', kHex[static_cast<std::uint8_t>(c) >> 4], kHex[c & 15]};
    else
      out += c;
  }
  return out;
}

}  // namespace llorch
