// What kernels read of a step: copies of the plan's arrays (device/plan.h) in device memory, at addresses that stay.
#pragma once

#include <cstdint>

namespace llorch::cuda {

struct StepRow {
  std::int32_t token, position, sequence, type;
};
struct StepSave {
  std::int32_t position, checkpoint;
};
/// Rows first..end-1 of the step.
struct StepSequence {
  std::int32_t first, end;
  std::int32_t slot, restore, drafts, adapter;
  std::int32_t saves, saves_end;  // of Step::saves
  std::int32_t pages[4];          // of each group: its first in Step::pages
};
/// Two steps that are equal here, and have as many rows of each set, run the same launches: all else is read on the
/// device.
struct Step {
  const StepRow* rows = nullptr;
  const StepSequence* sequences = nullptr;
  const StepSave* saves = nullptr;      // these begin where `pages` does:
  const std::int32_t* pages = nullptr;  // what has no bound of its own lies behind each other from here on
  unsigned* faults = nullptr;           // one for each row; 0: none
  std::int32_t row_count = 0, sequence_count = 0;
  // Bounds that a launch may depend on, powers of two:
  std::int32_t positions = 0;      // of all rows, and what they see, are below
  std::int32_t sequence_rows = 0;  // of one sequence at most
  bool operator==(const Step&) const = default;
};

/// How the fault of a matrix's row becomes that of a row of the step. The first fault of a row stays.
struct FaultMark {
  unsigned* faults = nullptr;          // null: nothing is looked at
  const std::int32_t* rows = nullptr;  // the step's row of each row of a set; null: all rows
  std::int64_t first = 0;              // the set's row that is the matrix's first
  unsigned code = 0;                   // not 0
};

}  // namespace llorch::cuda
