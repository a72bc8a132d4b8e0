// SHA-256 and comparison in constant time, by OpenSSL. Without memory: std::bad_alloc, never a sum that is none.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace llorch::security {

/// Of bytes that come in parts.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(std::string_view bytes);
  [[nodiscard]] std::string finish();  // 32 raw bytes; once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] std::string sha256(std::string_view bytes);  // 32 raw bytes
[[nodiscard]] std::string sha256_hex(std::string_view bytes);
[[nodiscard]] std::string hmac_sha256(std::string_view key, std::string_view bytes);  // 32 raw bytes
[[nodiscard]] bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace llorch::security
