// Holds one answer to its grammar: which tokens may be drawn next, which come without being drawn, where it ends.
//
// Belongs to one sequence; lives on the engine's thread, as everything that touches a Constraint does. Nothing of it is
// in the cache: a sequence that rests keeps its guide. Errors: kInvalidRequest where the grammar turns out to be too
// ambiguous (grammar/limits.h).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "grammar/matcher.h"
#include "text/tokenizer.h"

namespace llorch {

class Guide {
 public:
  Guide(std::shared_ptr<Constraint> constraint, const Tokenizer& tokenizer);

  /// Tokens that may come next, as SamplingRow::allowed takes them; valid until the next call.
  [[nodiscard]] Result<std::span<const std::uint32_t>> allowed();
  /// The answer goes on with this token. False: the grammar does not allow it.
  [[nodiscard]] bool take(TokenId id) { return matcher_.advance_token(static_cast<std::uint32_t>(id)); }
  /// Tokens of the text that must come next, as the tokenizer cuts it: as far as what follows cannot change that.
  [[nodiscard]] TokenIds forced();
  /// Nothing can come any more.
  [[nodiscard]] bool must_end() const { return matcher_.must_end(); }

 private:
  [[nodiscard]] bool cut(std::string_view text, std::size_t settled, TokenIds& out) const;

  std::shared_ptr<Constraint> constraint_;
  const Tokenizer& tokenizer_;
  Matcher matcher_;
  std::vector<std::uint32_t> bits_;
};

}  // namespace llorch
