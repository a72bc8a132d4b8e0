// JSON numbers within bounds, digit by digit (RFC 8259 section 6).
//
// Bounds are decimals, compared exactly: 0.1 is what the schema writes, not the nearest double. A number with a bound
// other than zero, or with a multiple, is written without exponent.
#pragma once

#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <vector>

#include "grammar/network.h"

namespace llorch {

struct Decimal {
  bool negative = false;
  std::string whole = "0", fraction;  // no leading zeros, no trailing ones

  [[nodiscard]] static std::optional<Decimal> of(const boost::json::value& number);
  [[nodiscard]] bool zero() const { return whole == "0" && fraction.empty(); }
  /// Below 0, 0, above 0: as a is less than b, equal, greater.
  [[nodiscard]] static int compare(const Decimal& a, const Decimal& b);
};

struct NumberRange {
  std::optional<Decimal> low, high;
  bool low_open = false, high_open = false;  // the bound itself is left out
  bool integer = false;
  bool fractional = false;             // not an integer
  std::vector<Decimal> multiples;      // of each of them
  std::vector<Decimal> not_multiples;  // of none of them

  void at_least(const Decimal& bound, bool open);
  void at_most(const Decimal& bound, bool open);
  [[nodiscard]] bool empty() const;
  /// nullopt: cannot be said exactly.
  [[nodiscard]] std::optional<bool> holds(const boost::json::value& number) const;
};

/// Edges and states from `from` to `to` that read one number. False: it takes too many states.
[[nodiscard]] bool add_number(Network& net, NetState from, const NumberRange& range, NetState to);

}  // namespace llorch
