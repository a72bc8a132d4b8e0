// What a model thinks before it answers: where it stands in the answer's tokens, so that stop strings are not looked
// for there, and that it ends where it takes more tokens than the request allows.
//
// Belongs to one sequence, as its guide does; depends on the answer's tokens alone, so that it ends at the same place
// in any company.
#pragma once

#include <limits>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace llorch {

struct ThoughtLimit {
  int tokens = kNoLimit;    // of the thought, without its marks
  std::string open, close;  // its marks, as the tokenizer spells them
  std::string answer;       // where there are marks round the answer, too: the one that begins it
  bool begun = false;       // by the prompt
  TokenIds ending;          // what is put where the thought must end

  static constexpr int kNoLimit = std::numeric_limits<int>::max();
};

class ThoughtWatch {
 public:
  explicit ThoughtWatch(const ThoughtLimit& limit)
      : limit_(limit), state_(limit.begun ? State::kWithin : State::kBefore) {}

  /// The answer goes on with a token of this spelling.
  void take(std::string_view spelling);
  /// The thought must end now; true once.
  [[nodiscard]] bool due();
  /// What comes next is of a thought, or of a mark: no part of the answer.
  [[nodiscard]] bool hidden() const;

 private:
  enum class State : std::uint8_t { kBefore, kWithin, kDue, kOver };

  const ThoughtLimit& limit_;  // of the sequence's request
  State state_;
  std::string seen_;    // before a thought, all of it; within, its end
  std::string header_;  // where the answer has a mark: the end of what came before it
  bool answers_ = false;
  int tokens_ = 0;
};

}  // namespace llorch
