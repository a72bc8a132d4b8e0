// What stands between the products of a feed-forward. For `.cu` files.
#pragma once

#include <cmath>

#include "cuda/kernel/block.h"
#include "model/kinds.h"

namespace llorch::cuda {

__device__ inline float gelu(float x) {
  return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}
__device__ inline float gelu_erf(float x) { return 0.5f * x * (1.0f + erff(x * 0.7071067811865476f)); }

__device__ inline float activated(const Activation& a, float gate, float up) {
  switch (a.kind) {
    case Activation::Kind::kSiluMul: return gate * sigmoid(gate) * up;
    case Activation::Kind::kGelu: return gelu(gate);
    case Activation::Kind::kGeluMul: return gelu(gate) * up;
    case Activation::Kind::kGeluErf: return gelu_erf(gate);
    case Activation::Kind::kGeluErfMul: return gelu_erf(gate) * up;
    case Activation::Kind::kReluSquared: return (gate > 0.0f ? gate : 0.0f * gate) * gate;
    case Activation::Kind::kSwigluClamped: break;
  }
  if (!isfinite(gate) || !isfinite(up)) return __int_as_float(0x7fc00000);  // the clamps would hide it
  const float c = fminf(gate, a.limit), u = fminf(fmaxf(up, -a.limit), a.limit);
  return c * sigmoid(a.alpha * c) * (u + 1.0f);
}

}  // namespace llorch::cuda
