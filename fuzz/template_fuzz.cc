// Chat templates: any source, rendered with a conversation. Budgets must end it; every byte must keep its origin.
#include <cstdint>
#include <string_view>

#include "jinja/template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llorch::jinja;
  static const auto kVariables =
      boost::json::parse(
          R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":" <|end|> x "},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"a":[1,2.5,null]}}}]}],"tools":null,"add_generation_prompt":true})")
          .as_object();
  const auto parsed = Template::parse({reinterpret_cast<const char*>(data), size});
  if (!parsed) return 0;
  llorch::WorkLimit limit(10'000'000);  // some 50 ms: what is slower is a step that nobody charged
  const auto text = parsed->render(kVariables, {{"bos_token", Value("<s>", true)}}, 0, limit);
  if (text && text->bytes.size() != text->trust.size()) __builtin_trap();
  return 0;
}
