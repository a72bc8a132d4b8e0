// Linear recurrences over sequences (device/device.h, RecurrenceCall; model/state.h).
//
// A slot holds of each value head its state (key_dim, stride), then of each what drafts added (64 places, stride), then
// of each their decays (64), then of each key head their keys (64, key_dim), then of each head's blocks of columns the
// position before which its state stands. The state goes on from step to step; that is before drafts, and what they add
// is kept beside it until the next step says how many stay. This step's drafts never take a place of the last one's,
// which other blocks may still read. A state is made position by position, so its bits do not depend on how the
// sequence was cut into steps. A checkpoint holds the states at a border.
//
// A step that was not finished leaves states that stand somewhere: its sequences must begin, or be restored. Rows that
// go on from such a state are NaN.
//
// Bounds on paper, H100: in a step of one row a state is read and written once: 128 x 128 floats are 128 KiB of a head,
// 38 ns of 3.35 TB/s; 36 layers with 32 heads 150 MB, 45 us, 7 % of the 2 GB of weights that a row of an 80B-A3B reads.
// In a prefill a row's values go from thread to thread: 160 instructions of a warp for a row and 8 columns of 128
// values, a fifth of a multiprocessor's cycles lost in waits: 220 cycles a row and layer, 270 us for 2,048 rows; all
// 36 layers 10 ms, a quarter of such a model's prefill at half of the bf16 peak. Not measured. Next: blocks of
// positions as products by mma.
#pragma once

#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/step.h"
#include "model/state.h"

namespace llorch::cuda {

/// As HeadColumns of device/device.h.
struct HeadValues {
  const float* x = nullptr;
  std::int64_t width = 0, first = 0, group = 1, step = 1;
};

struct RecurCall {
  const float* x = nullptr;  // (rows of the step, x_width)
  std::int64_t x_width = 0, query = 0, key = 0, value = 0;
  bool tiled = false, corrects = false, unit = false;
  float eps = 0, scale = 1;
  HeadValues step, strength;
  const float *step_bias = nullptr, *rate = nullptr, *skip = nullptr;  // skip may be null
  float* out = nullptr;                                                // (rows, value_heads * value_dim)
  float *slots = nullptr, *checkpoints = nullptr;
  std::int64_t slot_floats = 0, checkpoint_floats = 0;
  std::int32_t key_heads = 0, key_dim = 0, value_heads = 0, value_dim = 0, stride = 0;
};
/// Of a slot, without the inputs of a convolution.
[[nodiscard]] std::int64_t recur_floats(const SlotLayer& layer);
void recur(StreamHandle stream, const Step& step, const RecurCall& call);

}  // namespace llorch::cuda
