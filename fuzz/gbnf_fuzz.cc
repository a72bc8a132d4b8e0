// GBNF: a grammar, and after a line of three dashes texts that are read as the slow reference does.
#include "grammar/test_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llorch;
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const std::size_t border = std::min(all.find("\n---\n"), all.size());
  const auto grammar = Grammar::from_gbnf(all.substr(0, border));
  if (grammar) check_grammar(*grammar, all.substr(std::min(border + 5, all.size())));
  return 0;
}
