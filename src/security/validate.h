// Checks of what comes from outside, shared by all programs (S-12). No error repeats the value that it refuses.
//
// Each returns nothing when the value is good, else what is wrong with it. Threads: any.
#pragma once

#include <concepts>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace llorch::security {

enum class Flaw {
  kEmpty,
  kTooLong,
  kInvalidCharacters,
  kNullByte,
  kPathTraversal,
  kWrongLength,
  kInvalidHex,
  kOutOfRange,
  kControlCharacter,
  kAnsiEscape,
  kShellMetacharacter,
  kPathOutsideRoot,
  kIo,
};
[[nodiscard]] std::string_view describe(Flaw flaw);
using Checked = std::optional<Flaw>;

/// 1..max bytes of A-Z a-z 0-9 _ -.
[[nodiscard]] Checked check_identifier(std::string_view text, std::size_t max);
/// Starts with a-z 0-9, then up to 95 of a-z 0-9 . _ -.
[[nodiscard]] Checked check_object_id(std::string_view text);
/// `length` lower- or upper-case hexadecimal digits.
[[nodiscard]] Checked check_hex(std::string_view text, std::size_t length);
/// A SHA-256: 64 lower-case hexadecimal digits.
[[nodiscard]] Checked check_digest(std::string_view text);
/// At most 512 bytes without shell metacharacters, line breaks or "../".
[[nodiscard]] Checked check_model_reference(std::string_view text);
/// At most `max` bytes of valid UTF-8 without NUL; anything else is a person's own business.
[[nodiscard]] Checked check_prompt(std::string_view text, std::size_t max);
/// Names and log lines: valid UTF-8, of the control characters only tab and line breaks, no ANSI escape, nothing that
/// turns the direction of writing (U+202A to U+202E, U+2066 to U+2069).
[[nodiscard]] Checked check_display(std::string_view text);
/// Resolves `relative` below `root`, following no link out of it. No "." or ".." component, NUL or backslash.
[[nodiscard]] Checked check_path(const std::filesystem::path& root, std::string_view relative,
                                 std::filesystem::path& resolved);
/// low <= value <= high.
template<std::integral T>
[[nodiscard]] Checked check_range(T value, T low, T high) {
  return value < low || value > high ? Checked(Flaw::kOutOfRange) : std::nullopt;
}
/// Without white space at both ends.
[[nodiscard]] std::string trimmed(std::string text);
/// What may be shown: check_display() takes the result.
[[nodiscard]] std::string sanitize(std::string_view text, std::size_t characters_max = 1024);

}  // namespace llorch::security
