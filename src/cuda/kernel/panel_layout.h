// How a panel of 16 rows of a weight lies in device memory: as the lanes of a warp take it for A fragments of mma. What
// one step of 32 columns needs is contiguous, so that any number of steps is copied in pieces of 16 bytes, whole warps
// on neighbouring addresses.
//
// Rows `group` and `group + 8` of a fragment are rows 2 group and 2 group + 1 of the panel.
//   block formats  a step is [scales][bits][pairs][codes]; where scales lie under one of 256 columns (a grain),
//                  [supers] comes before its eight steps. The parts that a format does not have take nothing.
//     supers,      of each group the bytes of its first row, then those of its second one
//     scales
//     bits         2 bytes a lane. Of nibble i:  bit 0 is of code i of its first row,      bit 1 of code 16 + i;
//                                                bits 2 and 3: the same of its second row
//     pairs        4 bytes a lane. Of byte i:    bits 0-1 are of code i of its first row,  bits 2-3 of code 16 + i;
//                                                bits 4-7: the same of its second row
//     codes        nibbles, 8 bytes a lane:      a word for each row, in byte i code i and above it code 16 + i;
//                                                where they index a table: codes 0-3, then 16-19
//                  bytes, 16 bytes a lane:       codes 0-3 of both rows, then codes 16-19 of both
//                  A lane's code i is of column 4 t + i.
//   F16, BF16      a step is two A fragments of m16n8k16, 16 bytes a lane each
//   F32            a step is 16 pairs of columns; of each group the first row's two columns, then the second row's
// Columns are filled up to whole steps, rows to whole panels, with zeros.
#pragma once

#include "cuda/kernel/product.h"
#include "cuda/kernel/records.h"
#include "kernel/layout.h"

namespace llorch::cuda {

constexpr int kLanes = 32, kGroups = 8;
constexpr int kGrainSteps = 8;  // 256 columns, the largest block

/// Of one row: bytes of its scales of a step, and of those that are above eight steps.
constexpr int row_scales(const kernel::PanelFormat& f) {
  using kernel::Scales;
  switch (f.scales) {
    case Scales::kHalf: return f.block == 256 ? 0 : 2;
    case Scales::kHalfMin:
    case Scales::kTwoHalves: return 4;
    case Scales::kE8M0:
    case Scales::kSuperSigned: return 1;
    case Scales::kSuper:
    case Scales::kSuperNibble:
    case Scales::kSuperPair: return 2;
  }
  return 0;
}
constexpr int row_supers(const kernel::PanelFormat& f) {
  using kernel::Scales;
  if (f.block != 256) return 0;
  return f.scales == Scales::kSuperNibble || f.scales == Scales::kSuperPair ? 4 : 2;
}

/// Offsets of the parts of a step, and sizes, in bytes.
struct StepLayout {
  int supers = 0;  // of a grain
  int bits = 0, pairs = 0, codes = 0, step = 0;
  [[nodiscard]] constexpr int grain() const { return supers + kGrainSteps * step; }
};
constexpr StepLayout step_layout(const kernel::PanelFormat& f) {
  StepLayout out;
  out.supers = kPanelRows * row_supers(f);
  out.bits = kPanelRows * row_scales(f);
  out.pairs = out.bits + f.bits * 2 * kLanes;
  out.codes = out.pairs + f.pairs * 4 * kLanes;
  out.step = out.codes + (8 * f.nibbles + 16 * f.bytes) * kLanes;
  return out;
}
/// F16 and BF16: size 2; F32: 4.
constexpr int plain_step_bytes(int size) { return size * kPanelRows * kStepColumns; }

}  // namespace llorch::cuda
