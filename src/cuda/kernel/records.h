// Rows of activations as products read them. A record holds 32 columns of 8 rows (a tile), as the B fragments of mma
// lie in a warp (cuda/instructions.h); records are [tiles][columns / 32]. Rows and columns that are not there are
// zeros.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace llorch::cuda {

constexpr int kTileRows = 8, kStepColumns = 32;
constexpr float kDotOffset = 0x1.8p23f;  // block_weights.h

/// For block formats: x = code * scale. The two lowest bits of a scale's mantissa are 0, so that kDotOffset * scale is
/// exact; it overflows where a value is above 3e33, and makes the result not finite.
struct CodeRecord {
  alignas(16) std::uint32_t codes[32][2];  // of each lane: b of m16n8k32
  float factors[kTileRows / 2][4];         // of two rows: both scales, then -kDotOffset times both
  float minus_sums[2][kTileRows];          // -scale * sum of codes, of all columns and of 16-31: for minimums
};

/// For F16 and BF16: x = (high + low) * scale, both in the weight's type.
struct PairRecord {
  struct Half {
    std::uint32_t high[2], low[2];
  };
  alignas(16) Half values[2][32];  // [columns 0-15, 16-31][lane]: b of m16n8k16
  float scales[kTileRows];         // powers of two
};

/// For F32.
struct FloatRecord {
  alignas(16) float values[kStepColumns][kTileRows];
};

constexpr std::size_t kRecordBytesMax = sizeof(PairRecord);
static_assert(sizeof(CodeRecord) == 384 && kRecordBytesMax == 1056 && sizeof(FloatRecord) <= kRecordBytesMax);

enum class RecordForm { kCodes, kHalves, kBfloats, kFloats };
constexpr RecordForm record_form(DType type) {
  return type == DType::kF32    ? RecordForm::kFloats
         : type == DType::kF16  ? RecordForm::kHalves
         : type == DType::kBF16 ? RecordForm::kBfloats
                                : RecordForm::kCodes;
}

}  // namespace llorch::cuda
