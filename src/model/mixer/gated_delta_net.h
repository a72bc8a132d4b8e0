// The gated delta rule behind a short convolution. Each value head has a matrix S (key_dim, value_dim), zero at first;
// a token makes it exp(g) S, corrects what its key finds there towards its value, and reads it with its query:
//
//   S' = exp(g) S,  u = beta (v - S'^T k),  S = S' + k u^T,  out = S^T q
//
// q and k have length 1 (q then 1/sqrt(key_dim)), beta = sigmoid, g = rate * softplus(a + bias). Source: Yang, Kautz
// and Hatamizadeh 2024, "Gated Delta Networks".
#pragma once

#include "model/mixer/short_convolution.h"
#include "model/parts.h"
#include "model/state.h"

namespace llorch {

struct GatedDeltaNet {
  Linear input;  // (dim -> channels): queries, keys, values, before the convolution
  Linear gate;   // (dim -> value_heads * value_dim): the heads' outputs, normalised, are times its silu
  Linear beta;   // (dim -> value_heads)
  Linear decay;  // the same; where it is absent `beta` has both: of each key head its betas, then its decays
  Convolution convolution;
  TensorId decay_bias, decay_rate;  // (value_heads)
  Norm norm;                        // of each value head
  Linear output;                    // value_heads * value_dim -> dim
  int key_heads = 0, key_dim = 0, value_heads = 0, value_dim = 0;
  bool tiled = false;  // value head h uses key head h % key_heads; else h / (value_heads / key_heads)
  float eps = 1e-6f;   // of the lengths of queries and keys

  [[nodiscard]] int channels() const { return 2 * key_heads * key_dim + inner(); }
  [[nodiscard]] int inner() const { return value_heads * value_dim; }
  [[nodiscard]] Memory remembers() const {
    return SlotLayer{channels(), convolution.taps, key_heads, key_dim, value_heads, value_dim};
  }
};

}  // namespace llorch
