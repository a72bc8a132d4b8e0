// Charges a WorkLimit in portions: adding to it is an addition and a comparison.
#pragma once

#include "base/work_limit.h"

namespace llorch {

class Meter {
 public:
  explicit Meter(WorkLimit& limit) : limit_(limit) {}

  /// False when the limit is reached: status() says why.
  [[nodiscard]] bool add(std::uint64_t units) {
    pending_ += units;
    return pending_ < kPortion || flush();
  }
  [[nodiscard]] bool flush() {
    if (status_) status_ = limit_.charge(std::exchange(pending_, 0));
    return status_.has_value();
  }
  [[nodiscard]] Status status() const { return status_; }
  /// After the last add().
  [[nodiscard]] Status finish() {
    (void)flush();
    return status_;
  }

 private:
  static constexpr std::uint64_t kPortion = 4096;
  WorkLimit& limit_;
  std::uint64_t pending_ = 0;
  Status status_;
};

}  // namespace llorch
