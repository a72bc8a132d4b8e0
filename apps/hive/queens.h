// The queens that a hive may speak to: the one that it was given, and those that she says share a store with her. It
// speaks to one of them as long as she answers, then to the next. Threads: the event loop's.
#pragma once

#include <string>
#include <vector>

namespace llorch::hive {

class Queens {
 public:
  static constexpr std::size_t kMax = 32;
  /// `given`: URLs with commas between them, as --queen-url has them; may be empty.
  explicit Queens(const std::string& given);

  [[nodiscard]] bool any() const { return !all_.empty(); }
  /// Whom to speak to now; empty: there is none.
  [[nodiscard]] const std::string& now() const { return all_.empty() ? none_ : all_[at_]; }
  [[nodiscard]] const std::vector<std::string>& given() const { return given_; }
  /// What a queen has said of the others. Left out: what is no URL; in clear where those that were given are over TLS;
  /// loopback from one that is not. True: there are others than before.
  bool learn(const std::vector<std::string>& urls);
  /// She did not answer.
  void next();

 private:
  std::string none_;
  std::vector<std::string> given_, all_;  // all_: the given ones first
  std::size_t at_ = 0;
};

}  // namespace llorch::hive
