// Patterns: the first line is one, the others are texts that are read as the slow reference does.
#include "grammar/test_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace llorch;
  const auto [pattern, texts] = split_line({reinterpret_cast<const char*>(data), size});
  const auto grammar = Grammar::from_regex(pattern);
  if (grammar) check_grammar(*grammar, texts);
  const auto tree = Pattern::parse(pattern);
  if (!tree) return 0;
  std::size_t work = 0;
  const auto whole = CharDfa::match(*tree, work);
  const auto found = CharDfa::search(*tree, work);
  if (!whole || !found) return 0;
  // A text that matches as a whole holds a match; what is not matched is what the complement accepts.
  for_each_line(texts, [&](std::string_view text) {
    if (!utf8_valid(text)) return;
    const bool matches = whole->accepts(text);
    if (matches && !found->accepts(text)) __builtin_trap();
    if (whole->complement().accepts(text) == matches) __builtin_trap();
    if (!grammar) return;  // an anchor inside, say
    Matcher matcher(std::make_shared<Constraint>(*grammar, small_vocabulary()));
    if ((matcher.advance(text) && matcher.can_end()) != matches) __builtin_trap();
  });
  return 0;
}
