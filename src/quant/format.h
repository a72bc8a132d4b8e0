// What every block format states about itself. A format is one header quant/<name>.h with one struct:
//
//   struct Q4_0 {
//     static constexpr DType type;            // name, block and bytes follow from tensor/dtype.h
//     static constexpr int sub;               // values that share one scale: 16 or 32
//     static constexpr int zero;              // code that stands for zero: value = scale * (code - zero) - minimum
//     static void codes(const uint8_t* block, uint8_t* out);          // unsigned codes in element order, `block` of
//     them static SubScale scale(const uint8_t* block, int sub_block);     // the real scale and minimum of one
//     sub-block static void quantize(const float* x, uint8_t* block);           // absent where the format cannot be
//     made here
//   };
//
// Dequantisation and the dot product follow from that description, once for all formats (quant/table.cc). Fast kernels
// read the same bytes through their own layouts and are tested against these references.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace llorch::quant {

struct SubScale {
  float scale;
  float minimum;  // subtracted; 0 for symmetric formats
};

}  // namespace llorch::quant
