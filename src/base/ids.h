// Random identifiers and times of day, as they appear on the wire.
#pragma once

#include <chrono>
#include <string>

namespace llorch {

/// A version 4 UUID from the system's cryptographic source.
[[nodiscard]] std::string random_uuid();
/// `bytes` random bytes in hex.
[[nodiscard]] std::string random_hex(std::size_t bytes);
/// RFC 3339 in UTC with milliseconds.
[[nodiscard]] std::string rfc3339(std::chrono::system_clock::time_point time);
[[nodiscard]] std::string to_hex(std::string_view bytes);
/// Of an even number of hexadecimal digits, which the caller has checked.
[[nodiscard]] std::string from_hex(std::string_view digits);

}  // namespace llorch
