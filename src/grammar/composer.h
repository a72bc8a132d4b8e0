// Grammars made of parts: texts, sequences, alternatives, repetitions, and values of JSON schemas, in one network.
//
// A part may stand in several places. Ownership: the composer owns the network until finish() hands it over. Threads:
// one. Errors: Refusal of the schemas; keyword "grammar" where budgets are used up or nothing can match.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "grammar/grammar.h"
#include "grammar/schema_compiler.h"

namespace llorch {

class GrammarComposer {
 public:
  using Part = NetRule;

  [[nodiscard]] Part literal(std::string_view bytes);
  [[nodiscard]] Part sequence(std::span<const Part> parts);
  /// One of them; of none of them: nothing matches.
  [[nodiscard]] Part any_of(std::span<const Part> parts);
  /// `most` kNone: no limit.
  [[nodiscard]] Part repeat(Part part, std::uint32_t least, std::uint32_t most);
  /// One of the bytes `low` to `high` of the ranges.
  [[nodiscard]] Part byte_of(std::span<const std::pair<char, char>> ranges);
  /// For compilers of schemas that write into the same network.
  [[nodiscard]] Network& network() { return *net_; }

  [[nodiscard]] Compiled<Grammar> finish(Part root);

 private:
  std::shared_ptr<Network> net_ = std::make_shared<Network>();
};

}  // namespace llorch
