// Bodies of POST /v1/responses; what is taken is read a second time, as the history of a request that goes on from it.
#include <cstdint>

#include "conversation_api.h"
#include "wire/responses_api.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llorch;
  const auto body = wire::parse_body({reinterpret_cast<const char*>(data), size});
  if (!body) return 0;
  (void)wire::previous_response(*body);
  const auto read = wire::read_responses_api(*body, fuzzed_bounds(), {});
  check_conversation(read);
  if (!read) return 0;
  const boost::json::object next{{"model", "m"}, {"input", "and then?"}};
  const auto again = wire::read_responses_api(next, fuzzed_bounds(), read->input);
  check_conversation(again);
  if (!again) __builtin_trap();  // what was taken once can be gone on from
  return 0;
}
