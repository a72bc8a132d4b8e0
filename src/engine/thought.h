// Ends what a model thinks before it answers, where that takes more tokens than the request allows.
//
// Belongs to one sequence, as its guide does; depends on the answer's tokens alone, so that it ends at the same place
// in any company.
#pragma once

#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace llorch {

struct ThoughtLimit {
  int tokens = 0;           // of the thought, without its marks; at least one comes
  std::string open, close;  // its marks, as the tokenizer spells them
  bool begun = false;       // by the prompt
  TokenIds ending;          // what is put where the thought must end
};

class ThoughtWatch {
 public:
  explicit ThoughtWatch(const ThoughtLimit& limit)
      : limit_(limit), state_(limit.begun ? State::kWithin : State::kBefore) {}

  /// The answer goes on with a token of this spelling.
  void take(std::string_view spelling);
  /// The thought must end now; true once.
  [[nodiscard]] bool due();

 private:
  enum class State : std::uint8_t { kBefore, kWithin, kDue, kOver };

  const ThoughtLimit& limit_;  // of the sequence's request
  State state_;
  std::string seen_;  // before a thought, all of it; within, its end
  int tokens_ = 0;
};

}  // namespace llorch
