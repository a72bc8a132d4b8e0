// What an adapter adds to a product in the rows of its sequences: out += scale * b(a(x)).
#pragma once

#include <cstdint>

#include "cuda/handles.h"
#include "cuda/kernel/step.h"

namespace llorch::cuda {

struct LowRankCall {
  const float* x = nullptr;  // (rows, columns)
  const float* a = nullptr;  // (rank, columns)
  const float* b = nullptr;  // (rank, outputs)
  float* out = nullptr;      // (rows, outputs)
  float* inner = nullptr;    // room: (rows, rank)
  std::int64_t rows = 0, columns = 0, rank = 0, outputs = 0;
  float scale = 1;
  std::int32_t adapter = 0;
  const std::int32_t* set = nullptr;  // the step's row of each row of a set; null: all rows
  std::int64_t first = 0;             // the set's row that is x's first
};
void add_low_rank(StreamHandle stream, const Step& step, const LowRankCall& call);

}  // namespace llorch::cuda
