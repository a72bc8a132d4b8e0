#include "base/nearest.h"

#include <algorithm>
#include <cctype>
#include <vector>

namespace llorch {
namespace {

constexpr std::size_t kNameMax = 200;  // what is longer is no typing error

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

/// Edits between two names, with exchanged neighbours as one (optimal string alignment).
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], before[j - 2] + 1);
    }
    before.swap(last), last.swap(now);
  }
  return last[b.size()];
}

}  // namespace

std::string nearest(std::string_view typed, std::span<const std::string> known) {
  if (typed.empty() || typed.size() > kNameMax) return {};
  const std::string word = lower(typed);
  std::size_t best = std::max<std::size_t>(1, word.size() / 3) + 1;
  std::string found;
  for (const std::string& name : known) {
    if (name.size() > kNameMax) continue;
    if (const std::size_t d = distance(word, lower(name)); d < best) best = d, found = name;
  }
  return found;
}

std::string did_you_mean(std::string_view typed, std::span<const std::string> known) {
  const std::string name = nearest(typed, known);
  return name.empty() ? "" : ": did you mean '" + name + "'?";
}

}  // namespace llorch
