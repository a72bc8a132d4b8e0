// Grammars made of parts: texts, sequences, alternatives, repetitions, and values of JSON schemas, in one network.
//
// A part may stand in several places. Ownership: the composer owns the network until finish() hands it over. Threads:
// one. Errors: Refusal of the schemas; keyword "grammar" where budgets are used up or nothing can match.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

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
  /// Any text up to the first `mark`, and the mark: UTF-8, or a control token (control_mark() of grammar/vocabulary.h).
  /// No other control token is text. An empty mark is none: nothing matches.
  [[nodiscard]] Part until(std::string_view mark);
  /// Any text in which `mark` is not found; as above.
  [[nodiscard]] Part without(std::string_view mark);
  /// A copy of a grammar.
  [[nodiscard]] Part copy_of(const Grammar& whole) { return net_->append(*whole.network()); }
  /// For compilers of schemas that write into the same network.
  [[nodiscard]] Network& network() { return *net_; }

  [[nodiscard]] Compiled<Grammar> finish(Part root);

 private:
  [[nodiscard]] std::pair<Part, std::vector<NetState>> follow(std::string_view mark);

  std::shared_ptr<Network> net_ = std::make_shared<Network>();
};

}  // namespace llorch
