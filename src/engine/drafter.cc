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
  TokenIds guess;  // at the end of the text it goes on with itself: what repeats itself goes on doing so
  for (std::size_t i = 0; i < static_cast<std::size_t>(most); ++i)
    guess.push_back(tokens[best + i % (tokens.size() - best)]);
  return guess;
}

void Drafter::learn(int drafted, int accepted) {
  if (accepted == drafted) {
    length_ = std::max(length_, std::min(2 * drafted + 1, limits::kDraftsMax));  // it may have been cut
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
