#include "cuda/kernel/cache.h"

#include "cuda/kernel/block.h"
#include "cuda/kernel/cache_device.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr float kHalfMax = 65504.0f;

__device__ float within_half(float x) { return fminf(fmaxf(x, -kHalfMax), kHalfMax); }

/// 32 dimensions, or those that a head has left, as bytes with one scale.
__device__ void write_q8_0(const KvLayer& l, unsigned char* half, int slot, int d, const float* x) {
  const int count = l.head_dim - d < 32 ? l.head_dim - d : 32;
  float most = 0.0f;
  for (int i = 0; i < count; ++i) most = fmaxf(most, fabsf(x[i]));
  const Half scale = to_half(within_half(most / 127.0f));
  const float unit = to_float(scale), inverse = unit > 0.0f ? 1.0f / unit : 0.0f;
  auto* codes = reinterpret_cast<signed char*>(half) + slot * l.padded + d;
  for (int i = 0; i < 32; ++i) {
    const int code = i < count ? __float2int_rn(x[i] * inverse) : 0;
    codes[i] = static_cast<signed char>(code < -127 ? -127 : code > 127 ? 127 : code);
  }
  reinterpret_cast<Half*>(half + kPagePositions * l.padded)[(slot * l.padded + d) / 32] = scale;
}

/// A block for each row; a thread for 32 dimensions of a head (q8_0), or for one.
__global__ void __launch_bounds__(kThreads) write_kernel(Step step, KvLayer l, const float* key, const float* value) {
  const std::int64_t row = blockIdx.x, width = static_cast<std::int64_t>(l.kv_heads) * l.head_dim;
  const StepRow& of = step.rows[row];
  const int slot = of.position % kPagePositions;
  const std::int64_t page = step.pages[step.sequences[of.sequence].pages[l.group] + of.position / kPagePositions];
  const int unit = l.precision == KvPrecision::kQ8_0 ? 32 : 1;
  const int units = (l.head_dim + unit - 1) / unit;
  for (int i = static_cast<int>(threadIdx.x); i < l.kv_heads * units; i += kThreads) {
    const int head = i / units, d = i % units * unit;
    for (int which = 0; which < 2; ++which) {
      const float* x = (which == 0 ? key : value) + row * width + head * l.head_dim + d;
      unsigned char* half = kv_half(l, page, head, which);
      if (l.precision == KvPrecision::kQ8_0)
        write_q8_0(l, half, slot, d, x);
      else if (l.precision == KvPrecision::kF16)
        reinterpret_cast<Half*>(half)[slot * l.padded + d] = to_half(within_half(*x));
      else
        reinterpret_cast<float*>(half)[slot * l.padded + d] = *x;
    }
  }
}

}  // namespace

void write_cache(StreamHandle stream, const Step& step, const KvLayer& layer, const float* key, const float* value) {
  if (step.row_count > 0)
    launch(write_kernel, static_cast<unsigned>(step.row_count), kThreads, 0, stream, step, layer, key, value);
}

}  // namespace llorch::cuda
