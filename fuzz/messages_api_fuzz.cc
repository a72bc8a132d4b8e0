// Bodies of POST /v1/messages and /v1/messages/count_tokens.
#include <cstdint>

#include "conversation_api.h"
#include "wire/messages_api.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llorch;
  const auto body = wire::parse_body({reinterpret_cast<const char*>(data), size});
  if (!body) return 0;
  check_conversation(wire::read_messages_api(*body, fuzzed_bounds()));
  check_conversation(wire::read_messages_count(*body, fuzzed_bounds()));
  return 0;
}
