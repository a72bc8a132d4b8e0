// The AVX-512 kernels, and matrix products on tiles (AMX): 16 x 16 results of 32 columns by one instruction.
//
// Block formats: the tile unit multiplies int8 codes exactly, as VNNI does; conversion and scales follow in the order
// of body.h, so that results are bit-equal to those of avx512, and one row is computed there. F16 and BF16: activations
// are the sum of two bfloat16 (16 of the 24 bits), F16 weights too (exactly); products of two low parts are left out
// (2^-18). Every row count goes through the same tiles. Source of the instructions: Intel 64 manual, volume 1,
// chapter 18.
#define LLORCH_SCALE_COLUMNS 256  // tiles sum whole numbers over 256 columns
#include "kernel/isa/avx512_vec.h"

#include "kernel/body.h"
#include "kernel/isa/amx_tiles.h"

#include "kernel/isa/amx_minimums.h"

#include "kernel/isa/amx_blocks.h"
#include "kernel/isa/amx_plain.h"

#include "kernel/isa/amx_attention.h"

namespace llorch::kernel {
namespace {

double peak_bf16(std::int64_t rounds) {
  auto a = reinterpret_cast<__m512bh>(V::set1(1)), b = a;
  F sums[kChains];
  for (F& s : sums) s = V::zero();
  for (std::int64_t i = 0; i < rounds; ++i) {
    hide(a), hide(b);
#pragma GCC unroll 12
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], a, b);
  }
  for (F& s : sums) hide(s);
  return 2.0 * 2 * P * kChains * static_cast<double>(rounds);
}

/// Eight tiles: four sums, and operands of zeros.
template<bool kInt8>
double peak_tile(std::int64_t rounds) {
  TileShapes shapes;
  for (int t = 0; t < 8; ++t) shapes.set(t, 16, 64);
  configure(shapes);  // makes all tiles zero
  for (std::int64_t i = 0; i < rounds; ++i) {
    if constexpr (kInt8) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_release();
  return 4.0 * 2 * 16 * 16 * (kInt8 ? 64 : 32) * static_cast<double>(rounds);
}

void quantize_row_with_offsets(const float* x, std::int64_t n, int block, const QuantizedRow& to) {
  quantize_row(x, n, block, to);
  float values[32];
  std::uint16_t* offsets = to.offsets;
  for (std::int64_t c = 0; c < n / 32; c += 32, offsets += 2 * kTileRows * 32) {
    const std::int64_t count = min64(32, n / 32 - c);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int16_t* both = to.sums + (c + i) * 2 * to.tile;
      values[i] = -to.scales[(c + i) * 32 / block * to.tile] * static_cast<float>(both[0] + both[1]);
    }
    split_row(values, count, offsets);
  }
}

constexpr Kernels make_amx_table() {
  Kernels k = make_table();
  k.name = "amx";
  k.pairs = true;
  k.tiles_from = 8;
  k.offsets = true;
  k.quantize_row = quantize_row_with_offsets;
#define LLORCH_PANEL(format) k.linear[static_cast<int>(format.type)] = linear_tiles<format>;
#include "panel_table.inc"
#undef LLORCH_PANEL
  k.linear[static_cast<int>(DType::kF16)] = linear_split<true>;
  k.linear[static_cast<int>(DType::kBF16)] = linear_split<false>;
  k.split_row = split_row;
  k.attend = attend_tiles;
  k.peak_bf16 = peak_bf16;
  k.peak_int8_tile = peak_tile<true>;
  k.peak_bf16_tile = peak_tile<false>;
  return k;
}

}  // namespace

const Kernels& kernels_amx() {
  static constexpr Kernels kTable = make_amx_table();
  return kTable;
}

}  // namespace llorch::kernel
