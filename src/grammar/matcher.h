// Text held to a grammar: which tokens may come next, which bytes must, where it may end.
//
// A Constraint is a grammar together with a vocabulary and all that was learnt of their states; the matchers of
// requests with the same grammar share it. A Matcher is one text's place in it: small, copied before tokens that may be
// taken back (drafts). Threads: a constraint and its matchers belong to one thread at a time. Errors: kInvalidRequest
// where a grammar turns out to be so ambiguous that a state exceeds grammar/limits.h; the matcher then stays there.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "grammar/automaton.h"
#include "grammar/grammar.h"
#include "grammar/vocabulary.h"

namespace llorch {

class Constraint {
 public:
  Constraint(const Grammar& grammar, std::shared_ptr<const Vocabulary> vocabulary);
  [[nodiscard]] const Vocabulary& vocabulary() const { return *vocabulary_; }
  /// Not where even the beginning has more readings than grammar/limits.h allows: nothing matches then.
  [[nodiscard]] bool begins() const;
  /// States made since the last time that all but the current ones were dropped.
  [[nodiscard]] std::size_t states() const;

 private:
  friend class Matcher;
  friend class MaskMaker;
  /// What was learnt: dropped as a whole when it grows too large, while matchers still read the last one.
  struct Learnt;
  void renew();

  std::shared_ptr<const Network> net_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::shared_ptr<Learnt> learnt_;
};

class Matcher {
 public:
  explicit Matcher(std::shared_ptr<Constraint> constraint);

  /// Takes bytes of text. False, and nothing taken: no text of the grammar goes on so.
  [[nodiscard]] bool advance(std::string_view bytes);
  /// Takes a token: its bytes, or, of an end token, nothing, where the text may end. False: not allowed.
  [[nodiscard]] bool advance_token(std::uint32_t token);
  /// Sets bit i % 32 of word i / 32 for each token i that may come next, clears the others. `bits` holds
  /// Vocabulary::mask_words() words.
  [[nodiscard]] Status mask(std::span<std::uint32_t> bits);
  /// The bytes that must come next, as far as there is one way only; at most kForcedBytesMax. Nothing is taken.
  [[nodiscard]] std::string forced();
  /// How much of `text`, which comes next, no token can begin in and go on behind: a tokenizer that knows what follows
  /// cuts that much as it does without. All of it where nothing follows.
  [[nodiscard]] std::size_t settled(std::string_view text) const;
  /// The text is whole and may end here.
  [[nodiscard]] bool can_end() const;
  /// The text is whole, and nothing can come behind it.
  [[nodiscard]] bool must_end() const;

 private:
  void refresh();

  std::shared_ptr<Constraint> constraint_;
  std::shared_ptr<Constraint::Learnt> learnt_;  // the state below is one of these
  Automaton::Id state_;
};

}  // namespace llorch
