#include "keeper/lab.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "keeper/logit_log.h"

namespace llorch::keeper {
namespace {

/// Nats. A row that diverges by less is of the same model and text; one by more is of something else.
constexpr double kAlike = 0.1, kUnlike = 0.5;

std::span<const float> row_of(const EngineLogits& e, std::size_t row) {
  return e.values.subspan(row * static_cast<std::size_t>(e.vocab), static_cast<std::size_t>(e.vocab));
}
std::optional<std::size_t> row_at(const EngineLogits& e, int position) {
  const auto at = std::ranges::lower_bound(e.positions, position);
  if (at == e.positions.end() || *at != position) return std::nullopt;
  return static_cast<std::size_t>(at - e.positions.begin());
}

/// A row as a distribution; of states, as a direction of length 1. Empty: it has values that are no numbers.
struct Distribution {
  std::vector<double> log, p;
  bool direction = false;  // `log` is empty
  [[nodiscard]] bool empty() const { return p.empty(); }
};
bool is_number(float v, bool log_probabilities) {
  return std::isfinite(v) || (log_probabilities && v == -std::numeric_limits<float>::infinity());
}
Distribution distribution(const EngineLogits& e, std::size_t at) {
  const std::span<const float> row = row_of(e, at);
  Distribution d;
  for (const float v : row)
    if (!is_number(v, e.log_probabilities) || (std::isfinite(v) && std::abs(v) > kGarbage)) return d;
  if (e.states) {
    const double length = std::sqrt(std::inner_product(row.begin(), row.end(), row.begin(), 0.0));
    d.direction = true;
    for (const float v : row) d.p.push_back(length > 0 ? v / length : 0);
    return d;
  }
  const double top = *std::ranges::max_element(row);
  if (!std::isfinite(top)) return d;
  d.p.resize(row.size()), d.log.resize(row.size());
  double sum = 0;
  for (std::size_t i = 0; i < row.size(); ++i) sum += d.p[i] = std::exp(row[i] - top);
  const double log_sum = std::log(sum);
  for (std::size_t i = 0; i < row.size(); ++i) {
    d.p[i] /= sum;
    d.log[i] = std::max(row[i] - top - log_sum, -700.0);  // the least that a probability's logarithm can be in double
  }
  return d;
}
/// Of the tokens that both have.
double divergence(const Distribution& truth, const Distribution& other) {
  if (truth.empty() || other.empty()) return kUnknown;
  const std::size_t n = std::min(truth.p.size(), other.p.size());
  if (truth.direction) {  // half the squared distance: 1 - the cosine, without its rounding where they are the same
    double squared = 0;
    for (std::size_t i = 0; i < n; ++i) squared += (truth.p[i] - other.p[i]) * (truth.p[i] - other.p[i]);
    return squared / 2;
  }
  double kl = 0;
  for (std::size_t i = 0; i < n; ++i) kl += truth.p[i] * (truth.log[i] - other.log[i]);
  return std::max(kl, 0.0);
}

/// The row's most likely token beside the truth's; returns by how much the truth has the other one as less likely.
double compare_tokens(const Distribution& mine, const Distribution& theirs, std::size_t n, PositionReport& r) {
  const auto best = [n](const Distribution& d) {
    return std::max_element(d.p.begin(), d.p.begin() + static_cast<std::ptrdiff_t>(n)) - d.p.begin();
  };
  r.top = best(mine), r.right = best(theirs);
  r.probability = mine.p[static_cast<std::size_t>(r.top)];
  const double of_right = mine.p[static_cast<std::size_t>(r.right)];
  r.truth_rank = std::ranges::count_if(mine.p, [of_right](double p) { return p > of_right; });
  return theirs.log[static_cast<std::size_t>(r.right)] - theirs.log[static_cast<std::size_t>(r.top)];
}

PositionReport compare_rows(const EngineLogits& e, std::span<const float> row, std::span<const float> truth,
                            const Distribution& mine, const Distribution& theirs) {
  PositionReport r;
  for (const float v : row) {
    r.nonfinite += !is_number(v, e.log_probabilities);
    r.garbage += std::isfinite(v) && std::abs(v) > kGarbage;
  }
  if (r.nonfinite > 0 || r.garbage > 0 || mine.empty() || theirs.empty()) {
    r.kl = r.max_abs = r.relative = kUnknown;
    r.verdict = LabVerdict::kBug;
    r.why = r.nonfinite > 0 ? fmt::format("{} values are not finite", r.nonfinite)
                            : fmt::format("{} values are beyond 1e10", r.garbage);
    return r;
  }
  const std::size_t n = std::min(row.size(), truth.size());
  r.kl = divergence(theirs, mine);
  double magnitude = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double a = e.log_probabilities ? mine.log[i] : row[i], b = e.log_probabilities ? theirs.log[i] : truth[i];
    r.max_abs = std::max(r.max_abs, std::abs(a - b)), magnitude = std::max(magnitude, std::abs(b));
  }
  r.relative = magnitude > 0 ? r.max_abs / magnitude : r.max_abs;
  // P-03. Where the truth itself has two tokens within what parity allows on both sides, another one of them is no bug.
  const double margin = e.states ? 0 : compare_tokens(mine, theirs, n, r);
  const bool other_token = r.top != r.right;
  if (other_token && margin > 2 * kClose * magnitude)
    r.verdict = LabVerdict::kBug,
    r.why = fmt::format("token {} is the most likely, and {} for the truth", r.top, r.right);
  else if (r.relative > kFar)
    r.verdict = LabVerdict::kBug, r.why = fmt::format("{:.0f} % of the magnitude", 100 * r.relative);
  else if (r.relative > kClose)
    r.verdict = e.reduced ? LabVerdict::kExplained : LabVerdict::kOpen,
    r.why = fmt::format("{:.1f} % of the magnitude", 100 * r.relative);
  else if (other_token)
    r.verdict = LabVerdict::kExplained, r.why = fmt::format("tokens {} and {} are nearly as likely", r.right, r.top);
  return r;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}
std::vector<double> divergences(const EngineReport& r) {
  std::vector<double> out;
  for (const PositionReport& p : r.positions)
    if (std::isfinite(p.kl)) out.push_back(p.kl);
  return out;
}

/// Why a row looks as if nobody had computed it; empty: it does not.
std::string never_computed(const EngineLogits& e, std::size_t row) {
  const auto values = row_of(e, row);
  if (std::ranges::all_of(values, [&](float v) { return v == values[0]; }))
    return fmt::format("every value is {}", values[0]);
  for (std::size_t other = 0; other < e.positions.size(); ++other)
    if (other != row && std::ranges::equal(values, row_of(e, other)))
      return fmt::format("it is the row of position {}, bit for bit", e.positions[other]);
  return "";
}

/// P-23, P-31: an engine that was not asked for the logits of a position leaves in its buffer what was there before.
void recognise_uncomputed(const EngineLogits& e, EngineReport& r) {
  if (e.ours || r.positions.size() < 2) return;
  const bool others_alike = median(divergences(r)) < kAlike;
  for (std::size_t i = 0; i < r.positions.size(); ++i) {
    PositionReport& p = r.positions[i];
    if (p.verdict != LabVerdict::kBug) continue;
    std::string why = never_computed(e, i);
    if (why.empty() && p.position == 0 && others_alike && !(p.kl < kUnlike))
      why = p.why.empty() ? "all others agree" : p.why + ", while the others agree";
    if (why.empty()) continue;
    p.computed = false, p.verdict = LabVerdict::kOpen;
    r.findings.push_back(
        {"never_computed",
         fmt::format("the row of position {} was never computed ({}): ask the engine for the logits of this position "
                     "before anything is said about it",
                     p.position, why),
         p.position});
  }
}

void name_bad_values(EngineReport& r) {
  for (const PositionReport& p : r.positions) {
    if (!p.computed) continue;
    if (p.nonfinite > 0)
      r.findings.push_back(
          {"not_finite", fmt::format("position {}: {} values are not finite", p.position, p.nonfinite), p.position});
    if (p.garbage > 0)
      r.findings.push_back(
          {"garbage", fmt::format("position {}: {} values are beyond 1e10", p.position, p.garbage), p.position});
  }
}

/// Rows of other positions than they say.
void name_shift(const EngineLogits& truth, const EngineLogits& e, EngineReport& r) {
  const std::vector<double> here = divergences(r);
  const double own = median(here);
  if (here.size() < 3 || own < kAlike) return;
  for (const int shift : {1, -1}) {
    std::vector<double> there;
    const std::size_t step = std::max<std::size_t>(1, e.positions.size() / 32);
    for (std::size_t i = 0; i < e.positions.size(); i += step)
      if (const auto row = row_at(truth, e.positions[i] + shift)) {
        const double kl = divergence(distribution(truth, *row), distribution(e, i));
        if (std::isfinite(kl)) there.push_back(kl);
      }
    if (there.size() < 2 || median(there) > std::min(kAlike, own / 10)) continue;
    r.findings.push_back(
        {"shifted", fmt::format("positions are shifted: its row p is the truth's row p{:+d} (KL {:.2g} there, {:.2g} "
                                "where it says)",
                                shift, median(there), own)});
    return;
  }
}

/// A causal model agrees up to the first id that differs, and not behind it.
void name_other_ids(const EngineLogits& e, std::span<const std::int64_t> ids, EngineReport& r) {
  const bool with_first = e.own_ids.size() > ids.size() && !ids.empty() &&
                          std::equal(ids.begin(), ids.end(), e.own_ids.begin() + 1);  // a token that begins every text
  for (std::size_t i = 0; !with_first && i < std::min(ids.size(), e.own_ids.size()); ++i)
    if (e.own_ids[i] != ids[i]) {
      r.findings.push_back(
          {"other_tokenizer",
           fmt::format("its own tokenizer reads id {} at position {}, and {} was run", e.own_ids[i], i, ids[i]),
           static_cast<int>(i)});
      break;
    }
  if (std::ranges::any_of(r.findings, [](const Finding& f) { return f.kind == "shifted"; })) return;
  const auto first = std::ranges::find_if(
      r.positions, [](const PositionReport& p) { return p.computed && std::isfinite(p.kl) && p.kl > kAlike; });
  const auto behind = r.positions.end() - first;
  const auto off = std::count_if(first, r.positions.end(), [](const PositionReport& p) { return !(p.kl < kAlike); });
  if (behind < 3 || 10 * off < 8 * behind) return;
  if (first != r.positions.begin())
    r.findings.push_back({"other_ids",
                          fmt::format("it agrees up to position {} and with nothing from {} on: another id was read "
                                      "there, as another tokenizer would give",
                                      (first - 1)->position, first->position),
                          first->position});
  else if (median(divergences(r)) > kUnlike)
    r.findings.push_back({"other_model", "no row agrees: another model, or other ids from the first on", 0});
}

void sum_up(const EngineLogits& e, EngineReport& r) {
  double same = 0, kl = 0;
  int numbers = 0, counted = 0;
  for (const PositionReport& p : r.positions) {
    r.nonfinite += p.nonfinite, r.garbage += p.garbage;
    r.verdict = std::max(r.verdict, p.verdict);
    if (!p.computed) continue;
    ++counted, same += p.truth_rank == 0;
    if (!std::isfinite(p.kl)) continue;
    ++numbers, kl += p.kl;
    r.kl_max = std::max(r.kl_max, p.kl), r.max_abs = std::max(r.max_abs, p.max_abs);
    r.relative = std::max(r.relative, p.relative);
  }
  r.kl_mean = numbers > 0 ? kl / numbers : kUnknown;
  r.same_token = e.states ? kUnknown : counted > 0 ? same / counted : 0;
}

/// Distances of all pairs, as means over the positions that both have; a row that is no number counts for nothing.
class Distances {
 public:
  explicit Distances(std::size_t n) : sum_(n, std::vector<double>(n)), count_(n, std::vector<int>(n)) {}
  void add(const std::vector<Distribution>& at_position) {
    for (std::size_t i = 0; i < at_position.size(); ++i)
      for (std::size_t j = i + 1; j < at_position.size(); ++j) {
        const double d = (divergence(at_position[i], at_position[j]) + divergence(at_position[j], at_position[i])) / 2;
        if (std::isfinite(d)) sum_[i][j] += d, ++count_[i][j];
      }
  }
  [[nodiscard]] std::vector<std::vector<double>> mean() const {
    auto out = sum_;
    for (std::size_t i = 0; i < out.size(); ++i)
      for (std::size_t j = i + 1; j < out.size(); ++j)
        out[j][i] = out[i][j] = count_[i][j] > 0 ? sum_[i][j] / count_[i][j] : kUnknown;
    return out;
  }

 private:
  std::vector<std::vector<double>> sum_;
  std::vector<std::vector<int>> count_;
};

/// The one that stands apart from the others, who are near each other (P-25).
std::vector<Finding> outliers(const std::vector<std::vector<double>>& d, const std::vector<std::string>& names) {
  std::vector<Finding> out;
  if (names.size() < 3) return out;
  const auto to_others = [&](std::size_t of, std::size_t without) {
    std::vector<double> all;
    for (std::size_t j = 0; j < d.size(); ++j)
      if (j != of && j != without && std::isfinite(d[of][j])) all.push_back(d[of][j]);
    return all.empty() ? kUnknown : median(all);
  };
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::vector<double> among;
    for (std::size_t j = 0; j < names.size(); ++j)
      if (const double v = j == i ? kUnknown : to_others(j, i); std::isfinite(v)) among.push_back(v);
    const double apart = to_others(i, i), usual = median(among);
    if (!among.empty() && !std::isnan(apart) && apart > std::max(kAlike / 2, 10 * usual))
      out.push_back({"outlier", fmt::format("{} stands apart: KL {:.2g} to the others, who are {:.2g} from each other",
                                            names[i], apart, usual)});
  }
  return out;
}

}  // namespace

const char* name_of(LabVerdict v) {
  switch (v) {
    case LabVerdict::kParity: return "parity";
    case LabVerdict::kExplained: return "explained";
    case LabVerdict::kOpen: return "open";
    default: return "bug";
  }
}

double perplexity(const EngineLogits& e, std::span<const std::int64_t> ids) {
  double loss = 0;
  int scored = 0;
  for (std::size_t row = 0; row < e.positions.size() && !e.states; ++row) {
    const auto next = static_cast<std::size_t>(e.positions[row]) + 1;
    if (next >= ids.size() || ids[next] >= e.vocab) continue;
    const Distribution d = distribution(e, row);
    if (d.empty()) return kUnknown;
    loss -= d.log[static_cast<std::size_t>(ids[next])], ++scored;
  }
  return scored > 0 ? std::exp(loss / scored) : kUnknown;
}

LabReport compare_engines(const EngineLogits& truth, std::span<const EngineLogits> engines,
                          std::span<const std::int64_t> ids) {
  LabReport report;
  std::vector<std::string> names{truth.name};
  for (const EngineLogits& e : engines) {
    names.push_back(e.name);
    report.engines.emplace_back().name = e.name;
  }
  Distances distances(names.size());
  std::vector<Distribution> here(names.size());
  for (std::size_t row = 0; row < truth.positions.size(); ++row) {
    const int position = truth.positions[row];
    here[0] = distribution(truth, row);
    for (std::size_t i = 0; i < engines.size(); ++i) {
      const EngineLogits& e = engines[i];
      const auto at = row_at(e, position);
      here[i + 1] = at ? distribution(e, *at) : Distribution{};
      if (!at) continue;
      PositionReport p = compare_rows(e, row_of(e, *at), row_of(truth, row), here[i + 1], here[0]);
      p.position = position;
      report.engines[i].positions.push_back(std::move(p));
    }
    distances.add(here);
  }
  for (std::size_t i = 0; i < engines.size(); ++i) {
    EngineReport& r = report.engines[i];
    if (engines[i].vocab < truth.vocab)
      r.findings.push_back(
          {"narrow", fmt::format("its rows have {} values, the truth's {}", engines[i].vocab, truth.vocab)});
    recognise_uncomputed(engines[i], r);
    name_bad_values(r);
    name_shift(truth, engines[i], r);
    name_other_ids(engines[i], ids, r);
    sum_up(engines[i], r);
  }
  report.distances = distances.mean();
  report.outliers = outliers(report.distances, names);
  return report;
}

}  // namespace llorch::keeper
