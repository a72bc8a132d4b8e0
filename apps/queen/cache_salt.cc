#include "queen/cache_salt.h"

#include "security/digest.h"

namespace llorch::queen {

std::optional<BadField> salt_cache(boost::json::object& body, std::string_view principal) {
  constexpr std::size_t kBytesMax = 256;
  // Lengths stand before the parts, so that no two lists of parts give the same text.
  const auto part = [](std::string_view text) { return fmt::format("{}:{}", text.size(), text); };
  std::string parts = part(principal);
  for (const std::string_view field : {"cache_salt", "prompt_cache_key"}) {
    const auto* v = body.if_contains(field);
    const bool given = v && !v->is_null();
    if (given && (!v->is_string() || v->get_string().size() > kBytesMax))
      return BadField{
          {ErrorCode::kInvalidRequest, fmt::format("{} must be a string of at most {} bytes", field, kBytesMax)},
          field};
    parts += given ? part(v->get_string()) : "-";
    body.erase(field);
  }
  body["cache_salt"] = security::sha256_hex(parts);
  return std::nullopt;
}

}  // namespace llorch::queen
