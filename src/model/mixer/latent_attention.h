// Multi-head latent attention: what a position leaves behind is one short vector for all heads, and a key part that
// turns. Queries are brought into the space of that vector, so that it is key and value at once. Source: DeepSeek-AI
// 2024, "DeepSeek-V2", section 2.1, with the products of the up projections absorbed.
#pragma once

#include "model/parts.h"
#include "model/state.h"

namespace llorch {

struct LatentAttention {
  Linear query_down;  // absent: `query` takes the input itself
  Norm query_norm;    // of what query_down gives
  Linear query;       // heads * (plain + turning)
  Linear latent;      // latent_dim + turning
  Norm latent_norm;   // of its first latent_dim values
  Linear key_up;      // for each head: plain -> latent_dim (a query's plain part becomes one over latents)
  Linear value_up;    // for each head: latent_dim -> value_dim
  Linear output;      // heads * value_dim -> dim
  int heads = 0, plain = 0, turning = 0, latent_dim = 0, value_dim = 0;
  float scale = 1;
  int rope = -1;  // of the turning part

  [[nodiscard]] int key_dim() const { return latent_dim + turning; }
  /// One head; values are the first latent_dim of as many.
  [[nodiscard]] Memory remembers() const { return CacheLayer{1, key_dim()}; }
};

}  // namespace llorch
