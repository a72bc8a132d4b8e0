// Softmax attention with its extras. Sources: Vaswani et al. 2017; grouped queries: Ainslie et al. 2023; sinks and
// windows: gpt-oss's model card (OpenAI 2025).
#pragma once

#include "model/parts.h"
#include "model/state.h"

namespace llorch {

struct SoftmaxAttention {
  Linear query, key, value, output;
  Linear gate;  // the heads' outputs are times its sigmoid, value by value or head by head; absent: none
  int heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 1;
  int window = 0;                            // 0: all earlier positions; both ways half of it to each side
  float softcap = 0;                         // 0: none
  int rope = -1;                             // index into Graph::ropes; -1: none
  int query_rope = -1;                       // of queries, where it is another one
  std::optional<Norm> query_norm, key_norm;  // per head, or over all heads where the weight is as wide
  bool norm_after_rope = false;
  std::optional<Norm> value_norm;  // per head
  TensorId sinks;                  // one logit for each head
  bool both_ways = false;          // each token sees those behind it too (encoders)
  int cache_of = -1;               // the layer whose keys and values are used; -1: its own

  [[nodiscard]] int query_width() const { return heads * head_dim; }
  [[nodiscard]] int key_width() const { return kv_heads * head_dim; }
  /// What a sequence must remember for it.
  [[nodiscard]] Memory remembers() const {
    return cache_of < 0 ? Memory(CacheLayer{kv_heads, head_dim, both_ways ? 0 : window}) : Memory();
  }
};

}  // namespace llorch
