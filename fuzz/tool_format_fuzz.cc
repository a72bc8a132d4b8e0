// Formats of calls learnt from any template: budgets must end it; what was learnt must be usable.
#include <cstdint>

#include "tools/call_grammar.h"
#include "tools/learn.h"
#include "tools/parser.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llorch::tools;
  llorch::WorkLimit limit(20'000'000);
  const auto format = learn_tool_format({reinterpret_cast<const char*>(data), size}, {}, limit);
  if (!format) return 0;
  if (format->none() && format->reason.empty()) __builtin_trap();
  if (!format->none() && format->begin().empty()) __builtin_trap();
  const std::vector<DeclaredTool> tools = {
      {"zq_first", boost::json::parse(R"({"properties": {"zqa_key": {"type": "string"}}})").as_object()}};
  (void)call_grammar(*format, tools, {});
  ToolCallParser parser(*format, tools);
  (void)parser.push(format->begin() + "zq_first {\"zqa_key\": 1}");
  (void)parser.finish();
  return 0;
}
