#include "security/validate.h"

#include <algorithm>

#include "base/path_name.h"
#include "text/utf8.h"

namespace llorch::security {
namespace {

constexpr std::string_view kLower = "abcdefghijklmnopqrstuvwxyz", kUpper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                           kDigits = "0123456789";

bool one_of(char c, std::initializer_list<std::string_view> sets) {
  return std::ranges::any_of(sets, [&](std::string_view set) { return set.contains(c); });
}

/// Bytes of a mark that turns the direction of writing at `at`, or 0. All of them have three bytes.
std::size_t direction_mark(std::string_view text, std::size_t at) {
  if (text.substr(at, 2) != "\xE2\x80" && text.substr(at, 2) != "\xE2\x81") return 0;
  if (at + 2 >= text.size()) return 0;
  const auto last = static_cast<unsigned char>(text[at + 2]);
  const bool turns = text[at + 1] == '\x80' ? last >= 0xAA && last <= 0xAE : last >= 0xA6 && last <= 0xA9;
  return turns ? 3 : 0;
}

/// C0 but tab and line breaks, and DEL.
bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && !one_of(c, {"\t\n\r"})) || c == '\x7f'; }
/// C1 as UTF-8: the other spelling of an escape sequence's beginning among them.
bool is_c1(std::string_view text, std::size_t at) {
  return text[at] == '\xC2' && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) < 0xA0;
}

Flaw flaw_of(PathFlaw flaw) {
  switch (flaw) {
    case PathFlaw::kEmpty: return Flaw::kEmpty;
    case PathFlaw::kTooLong: return Flaw::kTooLong;
    case PathFlaw::kNul: return Flaw::kNullByte;
    case PathFlaw::kControlCharacter: return Flaw::kControlCharacter;
    case PathFlaw::kAbsolute: return Flaw::kPathOutsideRoot;
    case PathFlaw::kTraversal: return Flaw::kPathTraversal;
    case PathFlaw::kNone:
    case PathFlaw::kBackslash:
    case PathFlaw::kNotUtf8: break;
  }
  return Flaw::kInvalidCharacters;
}

}  // namespace

std::string_view describe(Flaw flaw) {
  switch (flaw) {
    case Flaw::kEmpty: return "must not be empty";
    case Flaw::kTooLong: return "is too long";
    case Flaw::kInvalidCharacters: return "has characters that are not allowed";
    case Flaw::kNullByte: return "must not contain NUL";
    case Flaw::kPathTraversal: return "must not leave its directory";
    case Flaw::kWrongLength: return "has the wrong length";
    case Flaw::kInvalidHex: return "must be hexadecimal";
    case Flaw::kOutOfRange: return "is out of range";
    case Flaw::kControlCharacter: return "must not contain control characters";
    case Flaw::kAnsiEscape: return "must not contain terminal escapes";
    case Flaw::kShellMetacharacter: return "must not contain shell metacharacters";
    case Flaw::kPathOutsideRoot: return "lies outside its directory";
    case Flaw::kIo: break;
  }
  return "cannot be read";
}

Checked check_identifier(std::string_view text, std::size_t max) {
  if (text.empty()) return Flaw::kEmpty;
  if (text.size() > max) return Flaw::kTooLong;
  if (text.contains('\0')) return Flaw::kNullByte;
  if (text.contains("..")) return Flaw::kPathTraversal;
  return std::ranges::all_of(text,
                             [](char c) {
                               return one_of(c, {kLower, kUpper, kDigits, "_-"});
                             })
             ? Checked()
             : Flaw::kInvalidCharacters;
}

Checked check_object_id(std::string_view text) {
  if (text.empty()) return Flaw::kEmpty;
  if (text.size() > 96) return Flaw::kTooLong;
  if (text.contains('\0')) return Flaw::kNullByte;
  const bool good = one_of(text[0], {kLower, kDigits}) && std::ranges::all_of(text, [](char c) {
                      return one_of(c, {kLower, kDigits, "._-"});
                    });
  return good ? Checked() : Flaw::kInvalidCharacters;
}

Checked check_hex(std::string_view text, std::size_t length) {
  if (text.size() != length) return text.empty() ? Flaw::kEmpty : Flaw::kWrongLength;
  return std::ranges::all_of(text,
                             [](char c) {
                               return one_of(c, {kDigits, "abcdefABCDEF"});
                             })
             ? Checked()
             : Flaw::kInvalidHex;
}

Checked check_digest(std::string_view text) {
  if (const Checked flaw = check_hex(text, 64)) return flaw;
  return std::ranges::none_of(text, [](char c) { return one_of(c, {kUpper}); }) ? Checked() : Flaw::kInvalidHex;
}

Checked check_model_reference(std::string_view text) {
  if (text.empty()) return Flaw::kEmpty;
  if (text.size() > 512) return Flaw::kTooLong;
  if (text.contains('\0')) return Flaw::kNullByte;
  if (text.contains("../") || text.ends_with("..")) return Flaw::kPathTraversal;
  if (std::ranges::any_of(text, [](char c) { return one_of(c, {";|&$`"}); })) return Flaw::kShellMetacharacter;
  if (std::ranges::any_of(text, is_control) || text.find_first_of("\r\n\t") != text.npos)
    return Flaw::kControlCharacter;
  return utf8_valid(text) ? Checked() : Flaw::kInvalidCharacters;
}

Checked check_prompt(std::string_view text, std::size_t max) {
  if (text.size() > max) return Flaw::kTooLong;
  if (text.contains('\0')) return Flaw::kNullByte;
  return utf8_valid(text) ? Checked() : Flaw::kInvalidCharacters;
}

Checked check_display(std::string_view text) {
  if (text.contains('\0')) return Flaw::kNullByte;
  if (text.contains('\x1b') || text.contains("\xC2\x9B")) return Flaw::kAnsiEscape;
  if (!utf8_valid(text)) return Flaw::kInvalidCharacters;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (is_control(text[i]) || is_c1(text, i) || direction_mark(text, i) > 0) return Flaw::kControlCharacter;
  return {};
}

Checked check_path(const std::filesystem::path& root, std::string_view relative, std::filesystem::path& resolved) {
  if (const PathFlaw flaw = check_relative_path(relative); flaw != PathFlaw::kNone) return flaw_of(flaw);
  const std::filesystem::path path(relative);
  std::error_code problem;
  const auto whole_root = std::filesystem::canonical(root, problem);
  if (problem) return Flaw::kIo;
  const auto whole = std::filesystem::weakly_canonical(whole_root / path, problem);
  if (problem) return Flaw::kIo;
  const auto [end, rest] = std::ranges::mismatch(whole_root, whole);
  if (end != whole_root.end()) return Flaw::kPathOutsideRoot;
  resolved = whole;
  return {};
}

std::string trimmed(std::string text) {
  while (!text.empty() && std::string_view(" \t\r\n").contains(text.back())) text.pop_back();
  text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  return text;
}

std::string sanitize(std::string_view text, std::size_t characters_max) {
  std::string out;
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size() && characters < characters_max;) {
    std::size_t size = 1;  // of the whole character, or of one bad byte
    while (size < 4 && i + size < text.size() && (static_cast<unsigned char>(text[i + size]) & 0xC0) == 0x80) ++size;
    const std::string_view one = text.substr(i, size);
    if (!utf8_valid(one)) {
      ++i;
      continue;
    }
    i += size;
    if (check_display(one)) continue;
    out += one;
    ++characters;
  }
  return out;
}

}  // namespace llorch::security
