// Causal convolutions over sequences, whose last inputs are kept in slots: position p in row p % kept.
//
// Bound: bytes. A row's inputs are read `taps` times, from the caches all but once, and its output is written: 8,192
// channels of 2,048 rows 134 MB, 40 us of an H100. In a step of few rows it is one launch.
#pragma once

#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/step.h"

namespace llorch::cuda {

struct ConvolveCall {
  const float* x = nullptr;       // (rows of the step, channels)
  const float* weight = nullptr;  // (taps, channels)
  const float* bias = nullptr;    // (channels), or null
  float* out = nullptr;           // as x; not x
  float* slots = nullptr;         // (slots, kept, channels)
  float* checkpoints = nullptr;   // (checkpoints, taps - 1, channels)
  std::int64_t channels = 0;
  std::int32_t taps = 0, kept = 0;
  bool silu = false;
};
void convolve(StreamHandle stream, const Step& step, const ConvolveCall& call);

}  // namespace llorch::cuda
