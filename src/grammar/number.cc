#include "grammar/number.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "grammar/limits.h"

namespace llorch {

std::optional<Decimal> Decimal::of(const boost::json::value& number) {
  std::string text;
  if (number.is_int64())
    text = fmt::format("{}", number.get_int64());
  else if (number.is_uint64())
    text = fmt::format("{}", number.get_uint64());
  else if (number.is_double())
    text = fmt::format("{}", number.get_double());
  else
    return std::nullopt;
  Decimal out;
  std::size_t at = 0;
  if (text[0] == '-') out.negative = true, at = 1;
  std::string digits;
  long point = -1, exponent = 0;
  for (; at < text.size() && (text[at] == '.' || (text[at] >= '0' && text[at] <= '9')); ++at) {
    if (text[at] == '.')
      point = static_cast<long>(digits.size());
    else
      digits += text[at];
  }
  if (digits.empty()) return std::nullopt;  // not finite
  if (at < text.size() && text[at] == 'e') exponent = std::strtol(text.c_str() + at + 1, nullptr, 10);
  point = (point < 0 ? static_cast<long>(digits.size()) : point) + exponent;
  if (point < 0) digits.insert(0, static_cast<std::size_t>(-point), '0'), point = 0;
  if (static_cast<std::size_t>(point) > digits.size())
    digits.append(static_cast<std::size_t>(point) - digits.size(), '0');
  out.whole = digits.substr(0, static_cast<std::size_t>(point));
  out.fraction = digits.substr(static_cast<std::size_t>(point));
  out.whole.erase(0, std::min(out.whole.find_first_not_of('0'), out.whole.size()));
  if (out.whole.empty()) out.whole = "0";
  out.fraction.erase(out.fraction.find_last_not_of('0') + 1);
  if (out.zero()) out.negative = false;
  return out;
}

int Decimal::compare(const Decimal& a, const Decimal& b) {
  if (a.negative != b.negative) return a.negative ? -1 : 1;
  int order = 0;
  if (a.whole.size() != b.whole.size())
    order = a.whole.size() < b.whole.size() ? -1 : 1;
  else if (const int whole = a.whole.compare(b.whole))
    order = whole;
  else
    order = a.fraction.compare(b.fraction);  // no trailing zeros: as texts
  return a.negative ? -order : order;
}

void NumberRange::at_least(const Decimal& bound, bool open) {
  const int order = low ? Decimal::compare(bound, *low) : 1;
  if (order > 0)
    low = bound, low_open = open;
  else if (order == 0)
    low_open = low_open || open;
}

void NumberRange::at_most(const Decimal& bound, bool open) {
  const int order = high ? Decimal::compare(bound, *high) : -1;
  if (order < 0)
    high = bound, high_open = open;
  else if (order == 0)
    high_open = high_open || open;
}

bool NumberRange::empty() const {
  if (!low || !high) return false;
  const int order = Decimal::compare(*low, *high);
  return order > 0 || (order == 0 && (low_open || high_open));
}

namespace {

/// The least common multiple of all as whole * 10^-digits; digits is kNone where fractions are not bounded by it.
struct Modulus {
  std::uint64_t whole = 1;
  std::uint32_t digits = kNone;
  bool known = true;
  std::vector<std::uint64_t> of, not_of;  // the numbers themselves, scaled

  [[nodiscard]] bool holds(std::uint64_t rest) const {
    return std::all_of(of.begin(), of.end(), [&](std::uint64_t n) { return rest % n == 0; }) &&
           std::none_of(not_of.begin(), not_of.end(), [&](std::uint64_t n) { return rest % n == 0; });
  }
};

Modulus modulus_of(const NumberRange& range) {
  Modulus out;
  std::vector<Decimal> all = range.multiples;
  if (range.integer) all.push_back({false, "1", ""});
  const std::size_t positive = all.size();
  all.insert(all.end(), range.not_multiples.begin(), range.not_multiples.end());
  if (all.empty()) return out;
  std::size_t digits = 0;
  for (const Decimal& d : all) digits = std::max(digits, d.fraction.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Decimal& d = all[i];
    const std::string text = d.whole + d.fraction + std::string(digits - d.fraction.size(), '0');
    if (text.size() > 15 || d.negative || d.zero()) return {1, 0, false, {}, {}};
    const std::uint64_t n = std::stoull(text);
    const std::uint64_t factor = n / std::gcd(out.whole, n);
    if (out.whole > (std::uint64_t{1} << 52) / factor) return {1, 0, false, {}, {}};
    out.whole *= factor;
    (i < positive ? out.of : out.not_of).push_back(n);
  }
  out.digits = static_cast<std::uint32_t>(digits);
  return out;
}

/// Reads the digits of a number that is not negative, between two bounds.
class Magnitude {
 public:
  struct Bounds {
    Decimal low;
    bool low_open = false;
    std::optional<Decimal> high;
    bool high_open = false;
  };

  Magnitude(Network& net, const Bounds& bounds, const Modulus& modulus, bool fractional, NetState to)
      : net_(net), bounds_(bounds), modulus_(modulus), fractional_(fractional), to_(to) {}

  bool add(NetState from) {
    const std::size_t least = bounds_.low.whole.size();
    const std::size_t most = bounds_.high ? bounds_.high->whole.size() : least;
    for (std::size_t size = least; size <= most; ++size)
      first_digit(
          from,
          {.whole_left = static_cast<std::uint32_t>(size), .low = size == least, .high = bounds_.high && size == most});
    if (!bounds_.high) first_digit(from, {.whole_left = static_cast<std::uint32_t>(least + 1), .more = true});
    while (!todo_.empty()) {
      const auto [place, state] = todo_.back();
      todo_.pop_back();
      expand(place, state);
      if (known_.size() > grammar_limits::kNumberStatesMax || net_.full()) return false;
    }
    return true;
  }

 private:
  struct Place {
    std::uint32_t whole_left = 0;    // digits before the point that are still to come
    bool more = false;               // or more of them
    bool low = false, high = false;  // all digits so far are those of the bound
    std::uint32_t fraction = 0;      // digits behind the point, as far as they matter
    bool point = false, dot_last = false;
    bool nonzero = false;  // behind the point, where it matters
    std::uint64_t rest = 0;
    auto operator<=>(const Place&) const = default;
  };

  NetState state_of(const Place& place) {
    const auto [found, fresh] = known_.try_emplace(place, 0);
    if (fresh) todo_.emplace_back(place, found->second = net_.add_state());
    return found->second;
  }

  static int digit_of(const std::string& digits, std::size_t i) { return i < digits.size() ? digits[i] - '0' : 0; }

  /// Adds the edge of one digit; `index` counts digits from the point on, or from the front before it.
  void digit(NetState from, const Place& place, int d, std::size_t index) {
    Place next = place;
    const auto bound = [&](const Decimal& b) { return digit_of(place.point ? b.fraction : b.whole, index); };
    if (place.low) {
      if (d < bound(bounds_.low)) return;
      next.low = d == bound(bounds_.low);
    }
    if (place.high) {
      if (d > bound(*bounds_.high)) return;
      next.high = d == bound(*bounds_.high);
    }
    next.rest = (place.rest * 10 + static_cast<std::uint64_t>(d)) % modulus_.whole;
    next.dot_last = false;
    if (place.point) {
      next.nonzero = place.nonzero || (fractional_ && d != 0);
      ++next.fraction;
      if (modulus_.digits == kNone) {
        const std::size_t matters =
            std::max(bounds_.low.fraction.size(), bounds_.high ? bounds_.high->fraction.size() : 0);
        next.fraction = next.low || next.high ? std::min(next.fraction, static_cast<std::uint32_t>(matters)) : 0;
      }
    } else if (next.whole_left > 0) {
      --next.whole_left;
    }
    const auto byte = static_cast<std::uint8_t>('0' + d);
    net_.add_edge(from, byte, byte, state_of(next));
  }

  void first_digit(NetState from, const Place& place) {
    for (int d = place.whole_left == 1 && !place.more ? 0 : 1; d < 10; ++d) digit(from, place, d, 0);
  }

  void expand(const Place& place, NetState state) {
    if (!place.point && (place.whole_left > 0 || place.more)) {
      const std::size_t size = place.low ? bounds_.low.whole.size() : bounds_.high ? bounds_.high->whole.size() : 0;
      for (int d = 0; d < 10; ++d) digit(state, place, d, size - place.whole_left);
    }
    if (!place.point && place.whole_left > 0) return;
    if (place.point && (modulus_.digits == kNone || place.fraction < modulus_.digits))
      for (int d = 0; d < 10; ++d) digit(state, place, d, place.fraction);
    if (!place.point && modulus_.digits != 0) {
      Place next = place;
      next.point = next.dot_last = true, next.more = false;
      net_.add_edge(state, '.', '.', state_of(next));
    }
    if (!place.dot_last && ends(place)) net_.add_jump(state, to_);
  }

  [[nodiscard]] bool ends(const Place& place) const {
    const auto exact = [&](const Decimal& b) {
      return place.point ? place.fraction >= b.fraction.size() : b.fraction.empty();
    };
    if (place.low && (!exact(bounds_.low) || bounds_.low_open)) return false;
    if (place.high && exact(*bounds_.high) && bounds_.high_open) return false;
    if (fractional_ && !place.nonzero) return false;
    if (modulus_.digits == kNone) return true;
    std::uint64_t rest = place.rest;
    for (std::uint32_t i = place.fraction; i < modulus_.digits; ++i) rest = rest * 10 % modulus_.whole;
    return modulus_.holds(rest);
  }

  Network& net_;
  const Bounds& bounds_;
  const Modulus& modulus_;
  bool fractional_;
  NetState to_;
  std::map<Place, NetState> known_;
  std::vector<std::pair<Place, NetState>> todo_;
};

/// A number without bounds; `negative`: behind its sign.
void add_free_number(Network& net, NetState from, bool integer, NetState to) {
  const NetState whole = net.add_state(), zero = net.add_state();
  net.add_edge(from, '0', '0', zero);
  net.add_edge(from, '1', '9', whole);
  net.add_edge(whole, '0', '9', whole);
  net.add_jump(whole, to), net.add_jump(zero, to);
  if (integer) return;
  const NetState point = net.add_state(), fraction = net.add_state(), e = net.add_state(), sign = net.add_state(),
                 power = net.add_state();
  for (const NetState s : {whole, zero}) net.add_edge(s, '.', '.', point);
  net.add_edge(point, '0', '9', fraction), net.add_edge(fraction, '0', '9', fraction);
  for (const NetState s : {whole, zero, fraction}) net.add_edge(s, 'e', 'e', e), net.add_edge(s, 'E', 'E', e);
  net.add_edge(e, '+', '+', sign), net.add_edge(e, '-', '-', sign);
  for (const NetState s : {e, sign, power}) net.add_edge(s, '0', '9', power);
  net.add_jump(fraction, to), net.add_jump(power, to);
}

}  // namespace

std::optional<bool> NumberRange::holds(const boost::json::value& number) const {
  const auto d = Decimal::of(number);
  if (!d) return std::nullopt;
  if (integer && !d->fraction.empty()) return false;
  if (fractional && d->fraction.empty()) return false;
  if (low) {
    const int order = Decimal::compare(*d, *low);
    if (order < 0 || (order == 0 && low_open)) return false;
  }
  if (high) {
    const int order = Decimal::compare(*d, *high);
    if (order > 0 || (order == 0 && high_open)) return false;
  }
  if (multiples.empty() && not_multiples.empty()) return true;
  const Modulus m = modulus_of(*this);
  if (!m.known) return std::nullopt;
  if (d->fraction.size() > m.digits) return multiples.empty();
  std::uint64_t rest = 0;
  for (const char c : d->whole + d->fraction + std::string(m.digits - d->fraction.size(), '0'))
    rest = (rest * 10 + static_cast<std::uint64_t>(c - '0')) % m.whole;
  return m.holds(rest);
}

bool add_number(Network& net, NetState from, const NumberRange& range, NetState to) {
  const Modulus modulus = modulus_of(range);
  if (!modulus.known) return false;
  const auto minus = [&] {
    const NetState state = net.add_state();
    net.add_edge(from, '-', '-', state);
    return state;
  };
  const bool low_free = !range.low || (range.low->zero() && !range.low_open);
  const bool high_free = !range.high || (range.high->zero() && !range.high_open);
  const bool simple = range.multiples.empty() && range.not_multiples.empty() && !range.fractional && low_free &&
                      high_free && !(range.low && range.high);
  if (simple) {
    if (!range.high) add_free_number(net, from, range.integer, to);
    if (!range.low) add_free_number(net, minus(), range.integer, to);
    if (range.high) net.add_edge(from, '0', '0', to);
    return true;
  }
  if (range.empty()) return true;
  if (!range.high || !range.high->negative) {
    Magnitude::Bounds bounds;
    if (range.low && !range.low->negative) bounds.low = *range.low, bounds.low_open = range.low_open;
    bounds.high = range.high, bounds.high_open = range.high_open;
    if (!Magnitude(net, bounds, modulus, range.fractional, to).add(from)) return false;
  }
  if (!range.low || range.low->negative) {
    Magnitude::Bounds bounds;
    if (range.high && (range.high->negative || range.high->zero()))
      bounds.low = *range.high, bounds.low_open = range.high_open;
    if (range.low) bounds.high = range.low;
    bounds.high_open = range.low_open;
    bounds.low.negative = false;
    if (bounds.high) bounds.high->negative = false;
    return Magnitude(net, bounds, modulus, range.fractional, to).add(minus());
  }
  return true;
}

}  // namespace llorch
