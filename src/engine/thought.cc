#include "engine/thought.h"

#include <algorithm>

namespace llorch {

void ThoughtWatch::take(std::string_view spelling) {
  if (state_ == State::kOver || state_ == State::kDue) return;
  seen_ += spelling;
  if (state_ == State::kBefore) {  // only at the very beginning is the mark a mark
    const std::string_view all = seen_;
    const std::string_view rest = all.substr(std::min(all.find_first_not_of(" \t\r\n"), all.size()));
    if (rest.starts_with(limit_.open))
      state_ = State::kWithin, seen_.clear();
    else if (!limit_.open.starts_with(rest))
      state_ = State::kOver;
    return;
  }
  if (seen_.contains(limit_.close)) {
    state_ = State::kOver;
  } else if (++tokens_ >= limit_.tokens) {
    state_ = State::kDue;
  } else if (seen_.size() > limit_.close.size()) {
    seen_.erase(0, seen_.size() - limit_.close.size());
  }
}

bool ThoughtWatch::due() {
  if (state_ != State::kDue) return false;
  state_ = State::kOver;
  return true;
}

}  // namespace llorch
