// Causal convolutions over sequences, whose last inputs are kept in slots: position p in row p % kept.
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
