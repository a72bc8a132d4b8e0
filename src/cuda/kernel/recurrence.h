// Linear recurrences over sequences (device/device.h, RecurrenceCall; model/state.h).
//
// A slot holds of each value head its state (key_dim, stride) at the last border, then of each what 64 positions add
// (64, stride), then of each their decays (64), then of each key head their keys (64, key_dim). A step begins from the
// border and repeats what the positions since then added: the state of a position is made of the same numbers in the
// same order however the sequence was cut into steps. A checkpoint holds the states.
// Next: the state at the last position beside the border's, so that a decode step repeats nothing; blocks of 64
// positions as products by mma.
#pragma once

#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/step.h"

namespace llorch::cuda {

/// As HeadColumns of device/device.h.
struct HeadValues {
  const float* x = nullptr;
  std::int64_t width = 0, first = 0, group = 1, step = 1;
};

struct RecurCall {
  float* x = nullptr;  // (rows of the step, x_width)
  std::int64_t x_width = 0, query = 0, key = 0, value = 0;
  bool tiled = false, corrects = false, unit = false;
  float eps = 0, scale = 1;
  HeadValues step, strength;
  const float *step_bias = nullptr, *rate = nullptr, *skip = nullptr;  // skip may be null
  float* out = nullptr;                                                // (rows, value_heads * value_dim)
  float *decays = nullptr, *strengths = nullptr;                       // room: (rows, value_heads) each
  float *slots = nullptr, *checkpoints = nullptr;
  std::int64_t slot_floats = 0, checkpoint_floats = 0;
  std::int32_t key_heads = 0, key_dim = 0, value_heads = 0, value_dim = 0, stride = 0;
};
void recur(StreamHandle stream, const Step& step, const RecurCall& call);

}  // namespace llorch::cuda
