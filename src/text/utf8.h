// UTF-8: decoding, and a stream that never splits or invents a code point. Source: RFC 3629.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/utf8.h"

namespace llorch {

/// The code point of a valid sequence of `length` bytes.
[[nodiscard]] char32_t utf8_code_point(std::string_view text, int length);
void utf8_append(std::string& out, char32_t code_point);
/// Unicode's property White_Space.
[[nodiscard]] bool is_white_space(char32_t code_point);

/// Collects bytes as tokens bring them and releases whole code points. Bytes that can never become one are set apart.
class Utf8Stream {
 public:
  /// Everything that is complete after `bytes` were added.
  [[nodiscard]] std::string push(std::string_view bytes);
  /// Ends the stream: what is still incomplete counts as undecoded.
  void finish();
  /// Bytes that never became a code point, in order.
  [[nodiscard]] const std::string& undecoded() const { return undecoded_; }
  [[nodiscard]] bool pending() const { return !pending_.empty(); }

 private:
  std::string pending_, undecoded_;
};

}  // namespace llorch
