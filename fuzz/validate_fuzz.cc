// The checks of what comes from outside: whatever they let pass has the property that they promise.
#include <cstdint>
#include <string_view>

#include "security/validate.h"
#include "text/utf8.h"

using namespace llorch::security;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto must = [](bool holds) {
    if (!holds) __builtin_trap();
  };
  if (!check_identifier(text, 64)) must(text.find_first_of("./\\ \n;|&$`\0") == text.npos && text.size() <= 64);
  if (!check_object_id(text)) must(text.front() != '.' && text.find('/') == text.npos);
  if (!check_digest(text)) must(!check_hex(text, 64) && !check_identifier(text, 64));
  if (!check_model_reference(text)) must(text.find_first_of(";|&$`\r\n") == text.npos);
  if (!check_prompt(text, 1 << 20)) must(llorch::utf8_valid(text));
  if (!check_display(text)) must(text.find('\x1b') == text.npos && llorch::utf8_valid(text));
  must(!check_display(sanitize(text)));
  std::filesystem::path resolved;
  if (!check_path("/usr", text, resolved)) must(resolved.native().starts_with("/usr"));
  return 0;
}
