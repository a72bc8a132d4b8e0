// Packed weight panels: how the codes and scales of `panel` rows are interleaved for the fast kernels.
//
// A panel walks the columns in blocks (32 values for simple formats, 256 for K formats; NVFP4's 64 are two). A block
// holds first the scales of all its rows, field by field (the two bytes of a pair of sub-blocks side by side: two
// factors of one instruction), then for each 32 columns the code planes. A plane vector has 4 bytes per row: four
// consecutive columns of that row, which is what one int8 dot instruction takes. Eight groups of four columns make 32
// columns:
//   nibble plane: 4 vectors, vector i has group i in the low and group i + 4 in the high nibbles
//   pair plane:   2 vectors, vector i has group 4 i + j at bits 2j
//   bit plane:    1 vector, bit g is group g
//   byte plane:   8 vectors, one a group
// Plain formats are [column][row], or [column / 2][row][2] where the ISA multiplies pairs of bfloat16 (F16 and BF16
// only; columns rounded up to 32 with zeros). No functions here: this header is compiled into every ISA's unit.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace llorch::kernel {

/// How an ISA, or a device, wants its panels: Kernels has the same two.
struct PanelShape {
  int panel;   // rows
  bool pairs;  // F16 and BF16: pairs of columns
};

enum class Scales {
  kHalf,         // f16 scale per block
  kHalfMin,      // f16 scale and f16 minimum per 32
  kE8M0,         // power of two per 32
  kTwoHalves,    // two f16 scales per 32, of 16 columns each
  kSuper,        // f16 d per 256, signed byte per 16, in pairs
  kSuperSigned,  // f16 d per 256, signed byte per 32
  kSuperNibble,  // f16 d and dmin per 256, byte per 16, in pairs: scale in the low, minimum in the high nibble
  kSuperPair,    // f16 d and dmin per 256, byte of scale per 32, then bytes of minimum, in pairs
};

/// One format's panel layout; the files of kernel/dot/ each state one.
struct PanelFormat {
  DType type;
  int block;  // columns per block
  int sub;    // columns per scale: 16 or 32
  int zero;   // code that stands for zero
  bool wide;  // codes above 127 occur
  int nibbles, pairs, bits,
      bytes;  // 1 where the plane is there; bits above it are joined as nibble | pair or bit << 4, pair | bit << 2
  Scales scales;
  bool indexed;                // nibbles index `lookup`
  const std::uint8_t* lookup;  // 16 codes, or null
  float unit = 1;              // a power of two that f16 scales are multiplied by
};

constexpr std::int64_t scale_bytes_per_row(const PanelFormat& f) {
  switch (f.scales) {
    case Scales::kHalf: return 2;
    case Scales::kHalfMin:
    case Scales::kTwoHalves: return 4;
    case Scales::kE8M0: return 1;
    case Scales::kSuper: return 2 + 16;
    case Scales::kSuperSigned: return 2 + 8;
    case Scales::kSuperNibble: return 4 + 16;
    case Scales::kSuperPair: return 4 + 16;
  }
  return 0;
}
constexpr std::int64_t plane_vectors(const PanelFormat& f) {
  return 4 * f.nibbles + 2 * f.pairs + f.bits + 8 * f.bytes;
}

/// Bytes of one block of a panel of `rows` rows.
constexpr std::int64_t block_bytes(const PanelFormat& f, int rows) {
  return rows * (scale_bytes_per_row(f) + f.block / 32 * plane_vectors(f) * 4);
}

}  // namespace llorch::kernel
