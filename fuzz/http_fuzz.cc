// HTTP from the outside in: request head, target, body to each request of the wire level, SSE read back.
#include <cstdint>
#include <string_view>

#include "net/http_types.h"
#include "net/sse.h"
#include "wire/messages_api.h"
#include "wire/requests.h"
#include "wire/responses_api.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)llorch::net::check_head(text);
  (void)llorch::net::parse_target(text.substr(0, text.find('\n')));
  const llorch::wire::Bounds bounds{2048, 2048, "m"};
  if (const auto body = llorch::wire::parse_body(text)) {
    (void)llorch::wire::read_inference(*body, bounds);
    (void)llorch::wire::read_chat(*body, bounds);
    (void)llorch::wire::read_completion(*body, bounds);
    (void)llorch::wire::read_embedding(*body, bounds);
    (void)llorch::wire::read_messages_api(*body, bounds);
    (void)llorch::wire::read_messages_count(*body, bounds);
    (void)llorch::wire::read_responses_api(*body, bounds, {});
  }
  int events = 0, again = 0;
  llorch::net::SseParser whole([&](const auto&) { ++events; }), split([&](const auto&) { ++again; });
  const bool fits = whole.push(text);
  bool split_fits = true;
  for (const char c : text) split_fits = split.push({&c, 1}) && split_fits;
  if (fits != split_fits || events != again || whole.done() != split.done())
    __builtin_trap();  // a boundary changed the meaning
  return 0;
}
