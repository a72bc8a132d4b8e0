// Which tokens the next forward pass computes. A pure function of the state it is given: no clock, no memory, no
// randomness.
//
// Decodes come first (one token each, and what was guessed to follow it), then prefill in order of admission, cut into
// chunks, until the budget is spent. What is planned together cannot change any result (E-40), so this decides only
// about speed and fairness.
#pragma once

#include <span>
#include <vector>

namespace llorch {

struct SequenceState {
  int id = 0;
  int pending = 0;  // tokens that are known but not computed yet: prompt remainder, or the 1 token just sampled
  bool prefilling = false;
  bool whole = false;  // all that is pending, or nothing (encoders)
  int drafts = 0;      // guesses behind what is pending: computed where all of them fit into the pass
};

struct PlannedWork {
  int id = 0;
  int tokens = 0;
  int drafts = 0;  // behind them
};

/// `budget`: most tokens of one pass; `prefill_chunk`: most prefill tokens of one sequence in it.
[[nodiscard]] std::vector<PlannedWork> plan_step(std::span<const SequenceState> sequences, int budget,
                                                 int prefill_chunk);

}  // namespace llorch
