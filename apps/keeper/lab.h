// The parity lab's comparison: logits of several engines for the same ids, each beside the truth and beside each other
// (P-03, P-23, P-25).
//
// Pure: who made the logits is the business of lab_run.h. Rows are float32 [rows, vocabulary]; KL divergences are in
// nats, from the truth to the engine, over the whole vocabulary, computed in double. Of models that give embeddings
// rows are the states of each token, [rows, width], and 1 - their cosine takes the place of the divergence.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace llorch::keeper {

/// What one engine computed. `values` belongs to the caller.
struct EngineLogits {
  std::string name;
  std::span<const float> values;  // [positions.size(), vocab]
  std::vector<int> positions;     // of the rows, ascending
  int vocab = 0;
  bool log_probabilities = false;       // the rows are these, not logits; -infinity is a value then
  bool states = false;                  // the rows are states: `vocab` is their width, and no token is likely
  bool reduced = false;                 // it declares that it rounds more than float32 does
  bool ours = false;                    // every row was asked for, so none is excused as never computed
  std::vector<std::int64_t> own_ids{};  // what its own tokenizer makes of the text; empty: not known
};

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

/// kExplained: beyond a hundredth of the magnitude, or another token of two that are nearly as likely, by an engine
/// that declares why.
enum class LabVerdict { kParity, kExplained, kOpen, kBug };
[[nodiscard]] const char* name_of(LabVerdict v);

struct PositionReport {
  int position = 0;
  std::int64_t top = -1, right = -1;        // most likely tokens, of the row and of the truth; -1: there is none
  double probability = kUnknown;            // of the row's
  std::int64_t truth_rank = -1;             // of the truth's among the row's, from 0
  double kl = 0, max_abs = 0;               // NaN where the row has values that are no numbers
  double relative = 0;                      // max_abs to the largest absolute value of the truth's row
  std::int64_t nonfinite = 0, garbage = 0;  // values that are not finite; of magnitudes over 1e10
  bool computed = true;                     // false: recognised as a row that was never computed; in no verdict
  LabVerdict verdict = LabVerdict::kParity;
  std::string why{};
};

/// Something that is named: kind is one of not_finite, garbage, never_computed, shifted, other_ids, other_tokenizer,
/// other_model, swapped_layers, narrow, outlier.
struct Finding {
  std::string kind, text;
  int position = -1;
};

struct EngineReport {
  std::string name;
  std::vector<PositionReport> positions;
  double kl_mean = 0, kl_max = 0, max_abs = 0, relative = 0;  // of the rows that are numbers
  double same_token = 0;                                      // share of the rows; NaN of states
  std::int64_t nonfinite = 0, garbage = 0;
  LabVerdict verdict = LabVerdict::kParity;
  std::vector<Finding> findings;
};

struct LabReport {
  std::vector<EngineReport> engines;           // as they were given, the truth not among them
  std::vector<Finding> outliers;               // over three engines or more, the truth one of them
  std::vector<std::vector<double>> distances;  // mean of both KL divergences; the truth is number 0
};

/// exp of the mean of -ln p(the id that follows), over the ids that have a row before them. NaN where there is none, a
/// row is no number, or the rows are states.
[[nodiscard]] double perplexity(const EngineLogits& e, std::span<const std::int64_t> ids);

/// `ids` are the ones that were run.
[[nodiscard]] LabReport compare_engines(const EngineLogits& truth, std::span<const EngineLogits> engines,
                                        std::span<const std::int64_t> ids);

}  // namespace llorch::keeper
