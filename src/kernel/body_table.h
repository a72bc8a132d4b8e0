// The table of an ISA's kernels. Included by kernel/body.h, at its end: one copy for each ISA, in its own unnamed
// namespace.
#pragma once

namespace llorch::kernel {
namespace {

constexpr Kernels make_table() {
  Kernels k{};
  k.name = V::kName;
  k.panel = P;
  k.tiles_from = std::int64_t{1} << 62;
  k.scale_columns = V::kScaleColumns;
  k.canonical = k.minimum_sums = V::kScaleColumns == 32;
  k.linear[static_cast<int>(DType::kF32)] = linear_plain<PlainF32>;
  k.linear[static_cast<int>(DType::kF16)] = linear_plain<PlainF16>;
  k.linear[static_cast<int>(DType::kBF16)] = linear_plain<PlainBF16>;
#define LLORCH_PANEL(format) k.linear[static_cast<int>(format.type)] = linear_quantized<format>;
#include "panel_table.inc"
#undef LLORCH_PANEL
  k.quantize_row = quantize_row;
  k.within = within;
  k.rms_norm = rms_norm;
  k.layer_norm = layer_norm;
  k.add = add;
  k.add_scaled = add_scaled;
  k.silu_mul = silu_mul;
  k.swiglu_clamped = swiglu_clamped;
  k.gelu = gelu;
  k.gelu_mul = gelu_mul;
  k.gelu_erf = gelu_erf;
  k.gelu_erf_mul = gelu_erf_mul;
  k.sigmoid_mul = sigmoid_mul;
  k.soft_cap = soft_cap;
  k.rope = rope;
  k.multiply = multiply;
  k.unit_length = unit_length;
  k.convolve = convolve;
  k.recurrence_rates = recurrence_rates;
  k.recur = recur;
  k.fold_block = fold_block;
  k.low_rank_reduce = low_rank_reduce;
  k.low_rank_expand = low_rank_expand;
  k.kv_write = kv_write;
  k.attend = attend;
  k.peak_int8 = peak_int8;
  k.peak_fp32 = peak_fp32;
  k.read = read;
  return k;
}

}  // namespace
}  // namespace llorch::kernel

#define LLORCH_DEFINE_KERNELS(name)                 \
  namespace llorch::kernel {                        \
  const Kernels& kernels_##name() {                 \
    static constexpr Kernels kTable = make_table(); \
    return kTable;                                  \
  }                                                 \
  }
