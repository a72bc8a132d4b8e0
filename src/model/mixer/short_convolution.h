// A gated causal convolution of some taps, channel by channel. Source: Liquid AI 2025, "LFM2 Technical Report".
#pragma once

#include "model/parts.h"
#include "model/state.h"

namespace llorch {

/// out[p][c] = bias[c] + sum over t of weight[t][c] * x[p - taps + 1 + t][c]; before a sequence's begin x is 0.
struct Convolution {
  TensorId weight;  // (taps, channels)
  TensorId bias;    // (channels), or absent
  int taps = 0;
};

/// output(c * convolution(b * x)), where the input's projection is b, c, x.
struct ShortConvolution {
  Linear before, after, input;  // b, c and x: dim -> channels
  Convolution convolution;
  Linear output;  // channels -> dim
  int channels = 0;

  [[nodiscard]] Memory remembers() const { return SlotLayer{channels, convolution.taps, 0, 0, 0, 0}; }
};

}  // namespace llorch
