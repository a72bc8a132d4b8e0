// Mixtures: which experts a row takes, and the sum of what they give.
#pragma once

#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/product.h"
#include "cuda/kernel/rows.h"
#include "model/kinds.h"

namespace llorch::cuda {

struct RouteCall {
  Routing routing;
  const float* logits = nullptr;  // (rows, experts)
  std::int64_t rows = 0, experts = 0;
  const float *choice_bias = nullptr, *expert_scale = nullptr;  // (experts), or null
  std::int32_t* chosen = nullptr;                               // (rows, active), best first
  float* weights = nullptr;                                     // the same
};
/// In double, as the reference device does, so that the same experts are chosen.
void route(StreamHandle stream, const RouteCall& call);

struct MixCall {
  RouteCall route;
  Matrix gate, up, down;                                                       // gate: where the activation is gated
  const float *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;  // (experts, rows of the matrix), or null
  Activation activation;
  const float* x = nullptr;  // (rows, columns of up)
  float* out = nullptr;      // (rows, rows of down)
  FaultMark mark;            // of values inside the experts
  void* room = nullptr;      // mixture_bytes()
};
/// Of the shapes alone: pointers of the call may be null.
[[nodiscard]] std::size_t mixture_bytes(const MixCall& call);
/// All on the device: the host knows the shapes alone. A row's results do not depend on the other rows.
void mix(StreamHandle stream, const MixCall& call);

}  // namespace llorch::cuda
