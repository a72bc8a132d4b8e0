// What daemons tell each other: a report that is read can be told again and read again, and a model reference has one
// spelling. The first byte chooses.
#include <cstdint>
#include <string_view>

#include "colony/facts.h"
#include "colony/model_ref.h"
#include "format/json.h"

using namespace llorch;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto must = [](bool holds) {
    if (!holds) __builtin_trap();
  };
  if (data[0] % 3 == 0) {
    const auto ref = colony::parse_model_ref(text);
    if (!ref) return 0;
    const auto again = colony::parse_model_ref(ref->text());
    must(again && again->text() == ref->text() && !("/" + ref->repo + "/").contains("/../"));
    return 0;
  }
  const auto json = json::parse(text, "report");
  if (!json) return 0;
  if (data[0] % 3 == 1) {
    if (const auto beat = colony::read_beat(*json)) must(colony::read_beat(colony::to_json(*beat)).has_value());
  } else if (const auto c = colony::read_capabilities(*json)) {
    must(colony::read_capabilities(colony::to_json(*c)).has_value());
  }
  return 0;
}
