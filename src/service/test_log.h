// What is logged and narrated, held in memory, for tests that look at it (O-05).
#pragma once

#include <gtest/gtest.h>

#include <mutex>

#include "service/log.h"

namespace llorch::service {

/// Takes every line from where it is made until where it goes. One at a time.
class CapturedLog {
 public:
  explicit CapturedLog(const std::string& component) {
    start_log(component, [this](const std::string& line) {
      const std::lock_guard lock(mutex_);
      lines_.push_back(boost::json::parse(line).as_object());
    });
  }
  ~CapturedLog() { stop_log(); }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;

  [[nodiscard]] std::vector<boost::json::object> of(std::string_view action) const {
    const std::lock_guard lock(mutex_);
    std::vector<boost::json::object> found;
    for (const auto& line : lines_)
      if (const auto* told = line.if_contains("action"); told && told->is_string() && told->as_string() == action)
        found.push_back(line);
    return found;
  }
  /// The actions came in this order; others may stand between, and one may come again.
  void expect_in_order(const std::vector<std::string_view>& actions) const {
    const std::lock_guard lock(mutex_);
    std::size_t next = 0;
    std::string told;
    for (const auto& line : lines_) {
      const auto* action = line.if_contains("action");
      if (!action || !action->is_string()) continue;
      told += std::string(action->as_string()) + ' ';
      if (next < actions.size() && action->as_string() == actions[next]) ++next;
    }
    if (next < actions.size()) ADD_FAILURE() << "no " << actions[next] << " at its place in: " << told;
  }
  void expect_never(std::string_view text) const {
    const std::lock_guard lock(mutex_);
    for (const auto& line : lines_) EXPECT_FALSE(boost::json::serialize(line).contains(text)) << line;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<boost::json::object> lines_;
};

}  // namespace llorch::service
