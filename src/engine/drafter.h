// Guesses how a text goes on, for steps that compute several tokens of a sequence at once.
//
// The guess is what followed the last place where the text's end occurred before (prompt lookup: Saxena 2023, "Prompt
// Lookup Decoding"). What it costs when it is wrong is bounded: guesses grow while they are right, and one that is
// wrong altogether makes the next one wait, each time for longer. A guess never changes an answer: the engine draws
// each token from its own logits and drops the rows behind the first one that differs.
#pragma once

#include <algorithm>
#include <span>

#include "text/tokenizer.h"

namespace llorch {

class Drafter {
 public:
  /// At most `most` tokens that may follow `tokens`; empty: no guess now.
  [[nodiscard]] TokenIds guess(std::span<const TokenId> tokens, int most);
  /// How the last guess went: of `drafted` tokens the first `accepted` were right.
  void learn(int drafted, int accepted);

 private:
  static constexpr int kShortest = 3;   // tokens that must agree
  static constexpr int kLongest = 32;   // beyond that all places are as good
  static constexpr int kBegin = 3;      // length of a first guess
  static constexpr int kWaitMost = 64;  // tokens drawn until a guess is tried again

  int length_ = kBegin;
  int misses_ = 0;  // one after the other
  int wait_ = 0;
};

}  // namespace llorch
