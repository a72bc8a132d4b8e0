// Follows JSON text byte by byte and says where a value ends (RFC 8259). Nothing is kept but the nesting.
//
// Threads: one. Errors: kBad for what is not JSON, or nests deeper than kDepthMax; it then stays bad.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llorch::tools {

class JsonScanner {
 public:
  static constexpr std::size_t kDepthMax = 200;
  enum class Step : std::uint8_t {
    kMore,
    kDone,    // this byte was the value's last
    kBehind,  // the value (a number) ended before this byte
    kBad
  };
  Step feed(char c);

  /// Where the value that begins at `at` ends; npos: it is no JSON, or cut off. White space in front belongs to it.
  [[nodiscard]] static std::size_t end_of(std::string_view text, std::size_t at);
  /// See closed_json().
  [[nodiscard]] static std::string closed_off(std::string_view text);

 private:
  enum class State : std::uint8_t {
    kValue,      // one must come
    kFirstItem,  // or ]
    kFirstKey,   // or }
    kKey,        // behind a comma
    kColon,
    kAfter,  // a comma or the end of what is open
    kString,
    kEscape,
    kHex,
    kNumber,
    kWord,
    kBad
  };
  Step value(char c);
  Step closed();  // a value has ended
  Step number(char c);
  Step bad() { return state_ = State::kBad, Step::kBad; }

  State state_ = State::kValue;
  std::string open_;  // '{' or '[' of each level
  bool key_ = false;  // the string is a name
  int hex_left_ = 0;
  std::string number_;
  std::string_view word_;
};

/// An object whose text breaks off, closed behind its last whole value; a number counts as whole where it is one. `{}`
/// where there is none, as in text that is no object.
[[nodiscard]] inline std::string closed_json(std::string_view text) { return JsonScanner::closed_off(text); }

/// What `text` is as a JSON string, in quotes; each byte that is no valid UTF-8 becomes U+FFFD.
[[nodiscard]] std::string json_quoted(std::string_view text);
/// The inside of it.
void append_json_escaped(std::string& out, std::string_view text);

}  // namespace llorch::tools
