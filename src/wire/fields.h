// Reads a request's JSON object field by field, and collects every violation instead of stopping at the first (W-14).
//
// Each getter consumes its field; what nobody consumed is known by unknown(). Null counts as absent. No violation
// repeats a value. Of thousands of violations the first kViolationsMax are kept: an answer names no more.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/work_limit.h"

namespace llorch::wire {

inline constexpr std::size_t kViolationsMax = 128;

struct Violation {
  std::string field, constraint, message;
  ErrorCode code = ErrorCode::kInvalidRequest;
};

/// Parses a body of at most 64 levels without doubled keys. Errors: kInvalidRequest; those of `limit`, where there is
/// one: it is charged for every portion of the text.
[[nodiscard]] Result<boost::json::object> parse_body(std::string_view text, WorkLimit* limit = nullptr);

class Fields {
 public:
  explicit Fields(const boost::json::object& object) : object_(object) {}

  /// The value, or null when absent; marks the field as known.
  const boost::json::value* take(std::string_view name);
  std::optional<double> number(std::string_view name, double low, double high, std::string_view constraint);
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t low, std::int64_t high);
  std::optional<std::uint64_t> unsigned_integer(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> text(std::string_view name, std::size_t bytes_max);
  /// A string, or an array of at most `count_max` of them, each of 1 to `bytes_max` bytes.
  std::vector<std::string> texts(std::string_view name, std::size_t count_max, std::size_t bytes_max);

  void violation(std::string_view field, std::string constraint, std::string message,
                 ErrorCode code = ErrorCode::kInvalidRequest) {
    if (violations_.size() < kViolationsMax)
      violations_.push_back({std::string(field), std::move(constraint), std::move(message), code});
  }
  [[nodiscard]] const std::vector<Violation>& violations() const { return violations_; }
  /// Names of fields that nobody asked for.
  [[nodiscard]] std::vector<std::string> unknown() const;

 private:
  const boost::json::object& object_;
  std::set<std::string, std::less<>> taken_;
  std::vector<Violation> violations_;
};

/// The error of a list of violations: its code and message are the first one's; the list goes into details.errors.
[[nodiscard]] Error violation_error(const std::vector<Violation>& violations);
[[nodiscard]] boost::json::object violation_details(const std::vector<Violation>& violations);

}  // namespace llorch::wire
