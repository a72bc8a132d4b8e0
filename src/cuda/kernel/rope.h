// Rotary embedding: the sines and cosines of a step's positions, and turning heads by them. Bound: bytes, x is read and
// written once.
#pragma once

#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/step.h"

namespace llorch::cuda {

/// Numbers of RopeSpec (model/rope.h).
struct RopeAngles {
  const double* frequencies = nullptr;  // `half` of them
  std::int64_t half = 0;
  double magnitude = 1, growth = 0, growth_every = 1, growth_offset = 0;
};
/// cos, sin (rows of the step, half), computed in double and rounded once.
void fill_rope(StreamHandle stream, const Step& step, const RopeAngles& angles, float* cos, float* sin);

/// Turns the first 2 * half values of each head of x (rows, heads * head_dim).
struct RopeTurn {
  float* x = nullptr;
  const float* cos = nullptr;
  const float* sin = nullptr;
  std::int64_t rows = 0, heads = 0, head_dim = 0, half = 0;
  bool adjacent = false;
};
void turn_heads(StreamHandle stream, const RopeTurn& turn);

}  // namespace llorch::cuda
