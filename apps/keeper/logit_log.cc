#include "keeper/logit_log.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "format/json.h"

namespace llorch::keeper {
namespace {

Result<LoggedRow> read_row(const json::object& o, const std::string& where) {
  LoggedRow row;
  const auto* position = o.if_contains("token_idx");
  const auto* values = json::find_array(o, "values");
  if (!position || !position->is_int64() || position->get_int64() < 0 || position->get_int64() > 1 << 30 || !values)
    return fail(ErrorCode::kInvalidRequest, "{} lacks token_idx or values", where);
  row.token_idx = static_cast<int>(position->get_int64());
  for (const json::value& v : *values) {
    const auto number = json::as_number(v);
    if (!number && !v.is_null()) return fail(ErrorCode::kInvalidRequest, "{}: values holds no number", where);
    row.values.push_back(number && std::isfinite(*number) ? number : std::nullopt);
  }
  if (const auto* bad = json::find_object(o, "nonfinite")) {
    const auto count = [&](const char* key) {
      const auto* v = bad->if_contains(key);
      return v && v->is_int64() ? v->get_int64() : 0;
    };
    row.nan = count("nan"), row.infinite = count("inf");
  }
  if (const auto* best = o.if_contains("argmax"); best && best->is_int64() && best->get_int64() >= 0)
    row.argmax = best->get_int64();
  return row;
}

std::optional<std::int64_t> argmax_of(const LoggedRow& row) {
  if (row.argmax) return row.argmax;
  std::optional<std::int64_t> best;
  for (std::size_t i = 0; i < row.values.size(); ++i)
    if (row.values[i] && (!best || *row.values[i] > *row.values[static_cast<std::size_t>(*best)]))
      best = static_cast<std::int64_t>(i);
  return best;
}

}  // namespace

Result<LogitLog> read_logit_log(const std::string& path) {
  std::ifstream in(path);
  if (!in) return fail(ErrorCode::kInvalidRequest, "there is no {}", path);
  LogitLog log;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const std::string where = fmt::format("{}:{}", path, ++number);
    if (line.empty()) continue;
    LLORCH_TRY(const json::value v, json::parse(line, where));
    const auto* o = v.if_object();
    if (!o) return fail(ErrorCode::kInvalidRequest, "{} is no object", where);
    if (json::find_text(*o, "checkpoint").value_or("") != "logits") continue;
    LLORCH_TRY(LoggedRow row, read_row(*o, where));
    if (log.team.empty()) log.team = json::find_text(*o, "team").value_or("");
    log.rows.try_emplace(row.token_idx, std::move(row));
  }
  return log;
}

RowStats stats_of(const LoggedRow& row) {
  RowStats s;
  s.token_idx = row.token_idx;
  double sum = 0, squares = 0;
  for (const auto& v : row.values) {
    if (!v) {
      ++s.nonfinite, ++s.garbage;
      continue;
    }
    s.min = s.finite ? std::min(s.min, *v) : *v, s.max = s.finite ? std::max(s.max, *v) : *v;
    ++s.finite, sum += *v, squares += *v * *v;
    s.garbage += std::abs(*v) > kGarbage;
    s.suspicious += std::abs(*v) > kSuspicious;
  }
  s.nonfinite = std::max(s.nonfinite, row.nan + row.infinite);
  if (s.finite == 0) return s;
  const auto n = static_cast<double>(s.finite);
  s.mean = sum / n;
  s.deviation = std::sqrt(std::max(0.0, squares / n - s.mean * s.mean));
  return s;
}

std::vector<RowDifference> compare_logs(const LogitLog& reference, const LogitLog& ours) {
  using Verdict = RowDifference::Verdict;
  std::vector<RowDifference> out;
  for (const auto& [position, theirs] : reference.rows) {
    const auto it = ours.rows.find(position);
    if (it == ours.rows.end()) continue;
    const LoggedRow& mine = it->second;
    RowDifference d;
    d.token_idx = position;
    const auto worse = [&d](Verdict v, std::string why) {
      if (v > d.verdict) d.verdict = v, d.why = std::move(why);
    };
    if (mine.nan + mine.infinite + theirs.nan + theirs.infinite > 0) worse(Verdict::kBug, "not finite");
    const std::size_t n = std::min(mine.values.size(), theirs.values.size());
    double magnitude = 0;
    for (std::size_t i = 0; i < n; ++i)
      if (theirs.values[i]) magnitude = std::max(magnitude, std::abs(*theirs.values[i]));
    for (std::size_t i = 0; i < n; ++i) {
      if (!mine.values[i] || !theirs.values[i]) {
        worse(Verdict::kBug, "not finite");
        continue;
      }
      const double a = *mine.values[i], b = *theirs.values[i], off = std::abs(a - b);
      d.mean_abs += off / static_cast<double>(n);
      if (off >= d.max_abs) d.max_abs = off, d.reference = b, d.ours = a;
    }
    const double share = magnitude > 0 ? d.max_abs / magnitude : d.max_abs;
    if (share > kFar) worse(Verdict::kBug, fmt::format("{:.0f} % of the magnitude", 100 * share));
    if (share > kClose) worse(Verdict::kOpen, fmt::format("{:.1f} % of the magnitude", 100 * share));
    if (const auto a = argmax_of(mine), b = argmax_of(theirs);
        a && b && mine.argmax.has_value() == theirs.argmax.has_value() && *a != *b)
      worse(Verdict::kBug, fmt::format("token {} is the most likely here, {} there", *a, *b));
    out.push_back(std::move(d));
  }
  const auto is_bug = [](const RowDifference& d) { return d.verdict == Verdict::kBug; };
  if (out.size() >= 3 && out[0].token_idx == 0 && is_bug(out[0]) && std::none_of(out.begin() + 1, out.end(), is_bug))
    out[0].computed = false, out[0].verdict = Verdict::kOpen,
    out[0].why = "one of the two never computed it: all other positions agree";
  return out;
}

const char* name_of(RowDifference::Verdict v) {
  return v == RowDifference::Verdict::kBug ? "bug" : v == RowDifference::Verdict::kOpen ? "open" : "parity";
}

}  // namespace llorch::keeper
