// Logit logs (src/engine/orch_log.h writes ours, other engines theirs): read, examined, compared (P-21, P-22).
//
// Pure but for reading files. Errors: kInvalidRequest naming file and line.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace llorch::keeper {

/// P-21, P-03: magnitudes that are suspicious, and garbage; shares of a magnitude that are near, and far.
inline constexpr double kSuspicious = 1e3, kGarbage = 1e10, kClose = 0.01, kFar = 0.1;

/// One line of a log.
struct LoggedRow {
  int token_idx = 0;
  std::vector<std::optional<double>> values;  // nullopt: it was not finite
  std::int64_t nan = 0, infinite = 0;         // of the whole tensor
  std::optional<std::int64_t> argmax;         // of the whole tensor, where the producer tells it
};
struct LogitLog {
  std::string team;
  std::map<int, LoggedRow> rows;  // by position; of a position that is logged twice, the first
};
/// Lines of the checkpoint "logits".
[[nodiscard]] Result<LogitLog> read_logit_log(const std::string& path);

/// What one row says about itself.
struct RowStats {
  int token_idx = 0;
  double min = 0, max = 0, mean = 0, deviation = 0;
  std::int64_t finite = 0, nonfinite = 0, suspicious = 0, garbage = 0;  // beyond 1e3; beyond 1e10 or not finite
};
[[nodiscard]] RowStats stats_of(const LoggedRow& row);

/// The same position in two logs.
struct RowDifference {
  int token_idx = 0;
  double max_abs = 0, mean_abs = 0;
  double reference = 0, ours = 0;  // the two values that differ most
  enum class Verdict { kParity, kOpen, kBug } verdict = Verdict::kParity;
  std::string why;
  bool computed = true;  // false: position 0 alone is off, as where its logits were not asked for (P-23)
};
/// Positions that both have. P-03: a bug is another most likely token, another sign or more than a tenth of the
/// magnitude, or anything that is not finite; within a hundredth it is parity; between, open.
[[nodiscard]] std::vector<RowDifference> compare_logs(const LogitLog& reference, const LogitLog& ours);
[[nodiscard]] const char* name_of(RowDifference::Verdict v);

}  // namespace llorch::keeper
