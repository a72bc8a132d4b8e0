// JSON schemas: the first line is a schema, the others are texts. Whatever compiles within its budgets reads each text
// as the slow reference does, and its masks are what trying each token gives.
#include <algorithm>

#include "grammar/test_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llorch;
  const auto [schema, texts] = split_line({reinterpret_cast<const char*>(data), size});
  const auto grammar = Grammar::from_json_schema(schema);
  if (grammar)
    check_grammar(*grammar, texts);
  else if (grammar.error().keyword.empty() || grammar.error().message.empty())
    __builtin_trap();
  return 0;
}
