// Hyper-parameters of a model, read from metadata and bounded before anything is computed from them.
//
// Keys are those of GGUF, prefixed by the architecture's name. A key under that prefix which nobody here understands is
// refused by name: it may change the maths.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata.h"

namespace llorch::arch {

struct RopeScaling {
  std::string kind = "none";  // none, linear, yarn, longrope
  double factor = 1;
  double original_context = 0;
  double beta_fast = 32, beta_slow = 1;
  double attention_factor = 0;  // 0: the rule of the kind
  bool round_range = true;      // YaRN: ramp ends rounded to whole dimensions
};

struct Hyper {
  std::string arch;
  int context = 0, dim = 0, layers = 0, ffn = 0, vocab = 0;
  int heads = 0, kv_heads = 0, head_dim = 0;
  float eps = 1e-5f;
  double rope_base = 10000;
  int rotated = 0;
  RopeScaling scaling;
  int window = 0;
  int experts = 0, experts_active = 0, expert_ffn = 0;
  int run_context = 0;  // positions that this run will use at most; LongRoPE chooses its factors by it

  [[nodiscard]] int query_width() const { return heads * head_dim; }
  [[nodiscard]] int key_width() const { return kv_heads * head_dim; }
};

/// Reads what all families have. `extra`: further keys (without prefix) that the family understands.
/// Errors: kModelLoadFailed for a missing, mistyped, out-of-range or unknown key.
[[nodiscard]] Result<Hyper> read_hyper(const Metadata& metadata, std::string_view arch,
                                       const std::vector<std::string_view>& extra);

}  // namespace llorch::arch
