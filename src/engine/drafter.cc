#include "engine/drafter.h"

#include "base/limits.h"

namespace llorch {

TokenIds Drafter::guess(std::span<const TokenId> tokens, int most) {
  if (wait_ > 0) {
    --wait_;
    return {};
  }
  most = std::min(most, length_);
  if (most <= 0 || tokens.size() <= static_cast<std::size_t>(kShortest)) return {};
  // The longest agreement wins, the latest place of equals.
  const TokenId* const end = tokens.data() + tokens.size();
  std::size_t best = 0, best_agree = kShortest - 1;
  for (std::size_t place = tokens.size() - 1; place >= static_cast<std::size_t>(kShortest); --place) {
    const TokenId* const behind = tokens.data() + place;
    if (behind[-1] != end[-1]) continue;
    std::size_t agree = 1;
    while (agree < kLongest && agree < place &&
           behind[-1 - static_cast<std::ptrdiff_t>(agree)] == end[-1 - static_cast<std::ptrdiff_t>(agree)])
      ++agree;
    if (agree <= best_agree) continue;
    best = place, best_agree = agree;
    if (agree == kLongest) break;
  }
  if (best == 0) return {};
  const auto count = std::min(tokens.size() - best, static_cast<std::size_t>(most));
  const auto found = tokens.subspan(best, count);
  return {found.begin(), found.end()};
}

void Drafter::learn(int drafted, int accepted) {
  if (accepted == drafted) {
    length_ = std::min(2 * length_ + 1, limits::kDraftsMax);
    misses_ = 0;
  } else if (accepted > 0) {
    length_ = accepted + 1;
    misses_ = 0;
  } else {
    length_ = 1;
    wait_ = std::min(1 << std::min(misses_++, 20), kWaitMost);
  }
}

}  // namespace llorch
