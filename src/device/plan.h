// One step of a model, described once: which rows are computed, where they stand, and what is wanted of them. A device
// takes it at the step's begin, and its operations read it there; the host hears of the step again at its end.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/limits.h"
#include "base/result.h"
#include "sample/sampler.h"

namespace llorch {

/// What one step computes. Filled by the engine; clear() keeps the memory for the next one.
struct StepPlan {
  /// A token, or an embedding that stands for one, at its place in a sequence.
  struct Row {
    std::int32_t token = 0;  // below 0: row -1 - token of `embeddings`
    std::int32_t position = 0;
    std::int32_t sequence = 0;  // index into `sequences`
    std::int32_t type = 0;      // row of the table of token types, where the model has one
  };
  /// What is remembered at a border that this step reaches goes to a checkpoint.
  struct Save {
    std::int32_t position = 0, checkpoint = 0;
  };
  /// Rows of one sequence lie together, positions ascending.
  struct Sequence {
    /// Numbers of its pages in the cache, by position / 64, for each group of layers; below 0: nobody sees it any more.
    std::array<std::span<const std::int32_t>, limits::kPageGroupsMax> pages;
    std::int32_t rows = 0;  // of it in this step
    std::int32_t slot = 0;  // of what it remembers besides pages
    /// Where the slot's states stand: the begin of the first row's block (64 positions), or of the block before, where
    /// that was completed by drafts that were accepted. Of a sequence that begins, or is restored: not read.
    std::int32_t border = 0;
    std::int32_t restore = -1;    // the checkpoint that it goes on from, at its first row: a border; -1: none
    std::int32_t adapter = -1;    // of the model's, by its number; -1: none
    std::int32_t drafts = 0;      // its last rows, which may be taken back; no draft begins another block
    std::span<const Save> saves;  // ascending
  };
  std::vector<Row> rows;
  std::vector<Sequence> sequences;
  std::vector<float> embeddings;         // (any, dim) rows
  std::vector<std::int32_t> logit_rows;  // whose logits are computed, ascending
  std::vector<std::int32_t> state_rows;  // whose normalised last states the host wants, ascending
  std::vector<SamplingRow> sampling;     // one for each of logit_rows, or none
  bool logits_wanted = false;            // by the host

  void clear() {
    rows.clear(), sequences.clear(), embeddings.clear(), logit_rows.clear(), state_rows.clear(), sampling.clear();
    logits_wanted = false;
  }
  /// `pages`: of all groups, until it is said otherwise.
  Sequence& add_sequence(std::span<const std::int32_t> pages, std::int32_t slot = 0) {
    Sequence& added = sequences.emplace_back();
    added.pages.fill(pages), added.slot = slot;
    return added;
  }
  /// A row of the sequence that was added last.
  void add_row(std::int32_t token, std::int32_t position, std::int32_t type = 0) {
    if (sequences.back().rows == 0)
      sequences.back().border = position / limits::kKvPagePositions * limits::kKvPagePositions;
    rows.push_back({token, position, static_cast<std::int32_t>(sequences.size()) - 1, type});
    ++sequences.back().rows;
  }
};

/// Where values are looked at. Those that are not finite, or too large to compute with, become zeros there, so that
/// nobody else ever sees them, and the row's fault is told at the step's end.
enum class Place : std::uint8_t {
  kAttentionInput,
  kQueries,
  kKeys,
  kValues,
  kAttentionOutput,
  kMlpInput,
  kInsideMlp,
  kConvolution,
  kRecurrence,
  kRouter,
  kInsideExpert,
  kLastNorm,
};
[[nodiscard]] const char* text(Place place);  // "queries are"

/// Which rows of the step a matrix has.
enum class RowSet : std::uint8_t { kAll, kLogits, kStates };

struct Guard {
  Place place = Place::kAttentionInput;
  int layer = 0;  // the number of layers: after them
  RowSet rows = RowSet::kAll;
  std::int64_t first = 0;  // row of that set which is the matrix's first
};

/// Of one row: where it was first not finite.
struct RowFault {
  bool found = false;
  Place place = Place::kAttentionInput;
  int layer = 0;
};

/// What a step gives the host; valid until the device begins another.
struct StepResult {
  std::vector<Result<Sampled>> sampled;  // for each of the plan's sampling rows
  std::span<const float> logits;         // (logit rows, vocabulary), where wanted
  std::span<const float> states;         // (state rows, dim)
  std::span<const RowFault> faults;      // for each row
  int layers = 0;                        // of the model

  /// Whether rows first.. were finite everywhere. What other rows computed does not depend on them. Errors:
  /// kInferenceFailed with layer and place.
  [[nodiscard]] Status finite_rows(std::size_t first, std::size_t count) const;
};

}  // namespace llorch
