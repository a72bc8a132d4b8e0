// The first part of the input as tokenizer.json, the rest (behind a zero byte) as text for it.
#include <string_view>

#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = all.find('\0');
  const auto tokenizer = llorch::Tokenizer::from_hf_json(all.substr(0, cut));
  if (!tokenizer) return 0;
  const std::string_view text =
      cut == std::string_view::npos ? std::string_view("Hello  wörld 123 <s>\n") : all.substr(cut + 1);
  llorch::WorkLimit limit(10'000'000);  // some 50 ms: what is slower is a step that nobody charged
  const auto ids =
      (*tokenizer)->encode(text.substr(0, 4096), {.add_special = true, .parse_special = true, .limit = &limit});
  if (!ids) return 0;
  for (const llorch::TokenId id : *ids)
    if (id < 0 || static_cast<std::size_t>(id) >= (*tokenizer)->size()) __builtin_trap();
  (void)(*tokenizer)->decode(*ids, true);
  return 0;
}
