#include "engine/thought.h"

#include <algorithm>

namespace llorch {

void ThoughtWatch::take(std::string_view spelling) {
  if (!limit_.answer.empty() && !answers_) {
    header_ += spelling;
    answers_ = header_.contains(limit_.answer);
    if (header_.size() > limit_.answer.size()) header_.erase(0, header_.size() - limit_.answer.size());
  }
  if (state_ == State::kOver || state_ == State::kDue) return;
  seen_ += spelling;
  if (state_ == State::kBefore) {  // only at the very beginning is the mark a mark
    const std::string_view all = seen_;
    const std::string_view rest = all.substr(std::min(all.find_first_not_of(" \t\r\n"), all.size()));
    if (rest.starts_with(limit_.open))
      state_ = limit_.tokens > 0 ? State::kWithin : State::kDue, seen_.clear();
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

bool ThoughtWatch::hidden() const {
  return limit_.answer.empty() ? state_ == State::kWithin || state_ == State::kDue : !answers_;
}

bool ThoughtWatch::due() {
  if (state_ != State::kDue) return false;
  state_ = State::kOver;
  return true;
}

}  // namespace llorch
