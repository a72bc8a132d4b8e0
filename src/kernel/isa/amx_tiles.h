// Tiles: their shapes, loading, and floats split into two bfloat16. A part of amx.cc.
#pragma once

namespace llorch::kernel {
namespace {

/// Shapes of the eight tiles; unused ones stay empty.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
  constexpr void set(int tile, int count, int bytes) {
    rows[tile] = static_cast<std::uint8_t>(count);
    row_bytes[tile] = static_cast<std::uint16_t>(bytes);
  }
};

// GCC 12's intrinsics do not say that these read memory: the compiler would be free to leave out or delay the stores
// before them.
inline void configure(const TileShapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory"); }
#define LLORCH_TILE_LOAD(tile, base, stride)                                    \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile                               \
               :                                                                \
               : "r"(static_cast<const void*>(base)), "r"(std::int64_t{stride}) \
               : "memory")

inline __mmask16 first_lanes(std::int64_t n) { return static_cast<__mmask16>((1u << (n < 16 ? n : 16)) - 1); }

inline I round_to_bfloat(F low, F high) { return reinterpret_cast<I>(_mm512_cvtne2ps_pbh(high, low)); }
inline F low_floats(I b) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(b)), 16));
}
inline F high_floats(I b) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(b, 1)), 16));
}

/// 32 floats as two vectors of bfloat16: rounded, and what the rounding left, rounded.
inline void split(F low, F high, I& top, I& rest) {
  top = round_to_bfloat(low, high);
  rest = round_to_bfloat(V::sub(low, low_floats(top)), V::sub(high, high_floats(top)));
}

void split_row(const float* x, std::int64_t n, std::uint16_t* out) {
  for (std::int64_t c = 0; c < n; c += 32, out += 2 * kTileRows * 32) {
    const std::int64_t left = n - c;
    I top, rest;
    split(_mm512_maskz_loadu_ps(first_lanes(left), x + c),
          left > 16 ? _mm512_maskz_loadu_ps(first_lanes(left - 16), x + c + 16) : V::zero(), top, rest);
    _mm512_storeu_si512(out, top);
    _mm512_storeu_si512(out + kTileRows * 32, rest);
  }
}

}  // namespace
}  // namespace llorch::kernel
