// Kernels that treat rows or single values: norms, activations, checks, copies. All pointers are device memory;
// launches only. Each is bound by memory: it reads its inputs once or twice and writes its output once.
#pragma once

#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/step.h"
#include "model/kinds.h"

namespace llorch::cuda {

/// Row r of x (rows, width) takes row r % weight_rows of the weight.
struct NormCall {
  const float* x = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;  // of layer_norm()
  std::int64_t rows = 0, width = 0, weight_rows = 1;
  float eps = 0;
  float* out = nullptr;  // may be x
  FaultMark mark;
};
void rms_norm(StreamHandle stream, const NormCall& call);
void layer_norm(StreamHandle stream, const NormCall& call);

/// Rows of x with a value that is not finite or above `limit` become zeros.
void check_rows(StreamHandle stream, float* x, std::int64_t rows, std::int64_t width, float limit,
                const FaultMark& mark);

struct ActivateCall {
  Activation kind;
  const float* gate = nullptr;
  const float* up = nullptr;  // not read where nothing is gated
  float* out = nullptr;       // may be one of them
  std::int64_t rows = 0, width = 0;
  FaultMark mark;
};
void activate(StreamHandle stream, const ActivateCall& call);

/// out += scale * x.
void add_values(StreamHandle stream, const float* x, float scale, std::int64_t count, float* out);
/// x *= scale.
void scale_values(StreamHandle stream, float* x, float scale, std::int64_t count);
/// x *= sigmoid(gate): a value for each of x's, or for each row of x (rows, width).
void gate_values(StreamHandle stream, const float* gate, bool of_rows, std::int64_t rows, std::int64_t width, float* x);
/// x = cap * tanh(x / cap).
void soft_cap_values(StreamHandle stream, float* x, float cap, std::int64_t count);
/// out *= x.
void multiply_values(StreamHandle stream, const float* x, std::int64_t count, float* out);

/// Of each row: `count` values from x to out, whose rows are so many floats apart.
void copy_columns(StreamHandle stream, const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t count,
                  float* out, std::int64_t out_stride);
/// out (count, width) = the rows of x whose numbers are given.
void select_rows(StreamHandle stream, const float* x, std::int64_t width, const std::int32_t* rows, std::int64_t count,
                 float* out);

}  // namespace llorch::cuda
