#include "engine/scheduler.h"

#include <algorithm>

namespace llorch {

std::vector<PlannedWork> plan_step(std::span<const SequenceState> sequences, int budget, int prefill_chunk) {
  std::vector<PlannedWork> plan;
  for (const bool prefilling : {false, true})
    for (const SequenceState& s : sequences) {
      if (s.prefilling != prefilling || s.pending <= 0) continue;
      const int tokens = std::min({s.pending, budget, s.whole ? s.pending : prefilling ? prefill_chunk : 1});
      if (tokens <= 0 || (s.whole && tokens < s.pending)) continue;
      plan.push_back({s.id, tokens});
      budget -= tokens;
    }
  // What others wait for comes before what nobody may need.
  for (const SequenceState& s : sequences) {
    if (s.drafts <= 0 || s.drafts > budget) continue;
    for (PlannedWork& w : plan)
      if (w.id == s.id && w.tokens == s.pending) w.drafts = s.drafts, budget -= s.drafts;
  }
  return plan;
}

}  // namespace llorch
