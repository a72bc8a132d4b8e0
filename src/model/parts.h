// What blocks are made of, as data: numbers, and which tensors of the model's file are meant. No memory, no device.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/kinds.h"

namespace llorch {

/// A tensor of the graph's list; below 0: absent.
struct TensorId {
  int index = -1;
  [[nodiscard]] bool there() const { return index >= 0; }
};

/// out = x times the weight transposed, plus bias.
struct Linear {
  TensorId weight, bias;
  std::int64_t outputs = 0;
};

struct Norm {
  TensorId weight;
  TensorId bias;  // absent: RMSNorm; else LayerNorm
  float eps = 1e-5f;
};

struct Mlp {
  Activation activation;
  Linear gate;  // absent where the activation has none
  Linear up, down;
};

/// A mixture of experts, with one that all tokens share where the family has it.
struct Moe {
  Linear router;
  TensorId choice_bias;
  Routing routing;
  Activation activation;
  Linear gate, up, down;  // of all experts; outputs of one
  std::optional<Mlp> shared;
  Linear shared_gate;      // its output is times the sigmoid of this, where it is there
  TensorId expert_scale;   // of each expert's weight, behind all else
  float router_scale = 1;  // of the router's logits
  // Where there are these, the block has no norm before its feed-forward.
  std::optional<Norm> router_norm, input_norm, output_norm, shared_input_norm, shared_output_norm;
};

}  // namespace llorch
