// The selective state space of Mamba 2 behind a short convolution. Each head has a matrix S (state, head), zero at
// first:
//
//   S = exp(dt * rate) S + b (dt x)^T,  out = S^T c + skip * x
//
// dt = softplus(projection + bias); b and c are shared by the heads of a group. The outputs are times silu(z), then
// normalised group by group. Source: Dao and Gu 2024, "Transformers are SSMs".
#pragma once

#include "model/mixer/short_convolution.h"
#include "model/parts.h"
#include "model/state.h"

namespace llorch {

struct Mamba2 {
  Linear gate;   // z: dim -> heads * head_dim
  Linear input;  // dim -> channels: x, b, c, before the convolution
  Linear step;   // dt: dim -> heads
  Convolution convolution;
  TensorId step_bias, decay_rate, skip;  // (heads)
  Norm norm;                             // (groups, heads * head_dim / groups)
  Linear output;                         // heads * head_dim -> dim
  int heads = 0, head_dim = 0, groups = 1, state_dim = 0;

  [[nodiscard]] int inner() const { return heads * head_dim; }
  [[nodiscard]] int channels() const { return inner() + 2 * groups * state_dim; }
  [[nodiscard]] Memory remembers() const {
    return SlotLayer{channels(), convolution.taps, groups, state_dim, heads, head_dim};
  }
};

}  // namespace llorch
