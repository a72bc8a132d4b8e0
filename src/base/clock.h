// The two clocks: one that only goes forward, for how long something took, and the wall's, for what people read.
#pragma once

#include <chrono>
#include <cstdint>

namespace llorch {

[[nodiscard]] inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}
[[nodiscard]] inline double ms_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

[[nodiscard]] inline std::chrono::system_clock::time_point wall_now() { return std::chrono::system_clock::now(); }
/// Since 1970 in UTC.
[[nodiscard]] inline std::int64_t unix_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(wall_now().time_since_epoch()).count();
}
[[nodiscard]] inline std::int64_t unix_seconds() { return unix_ms() / 1000; }

}  // namespace llorch
