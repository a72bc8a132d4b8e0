// Rows of floats into the records of cuda/kernel/records.h. A warp makes one record: 32 columns of 8 rows; lane / 4 is
// the row.
//
// Bound: bytes. Reads 4 and writes 1.5 (codes) to 4.1 (pairs) for each value: for 512 rows of 4,096 columns 11 MB, 3 us
// of an H100; for one row it is the launch.
#include <cmath>

#include "cuda/instructions.h"
#include "cuda/kernel/product_args.h"
#include "cuda/kernel/records.h"
#include "cuda/launch.h"

namespace llorch::cuda {
namespace {

constexpr unsigned kAll = 0xffffffffu;
constexpr unsigned kConvertThreads = 128;

struct ConvertArgs {
  const float* x;
  std::int64_t x_stride;
  int rows, columns, tiles, steps;
  void* records;
  RowGather gather;  // sources: null where rows lie one after another
};

/// The rows of one tile from one column on.
struct Source {
  const float* at;  // of the lane's row
  int columns;      // that are left
  bool there;
  float factor;
  __device__ float value(int column) const { return there && column < columns ? at[column] * factor : 0.0f; }
};
__device__ Source source_of(const ConvertArgs& a, int slot, int step) {
  const int column = step * kStepColumns;
  Source out{a.x + column, a.columns - column, slot < a.rows, 1.0f};
  int row = slot;
  if (a.gather.sources && out.there) {
    const int pair = a.gather.sources[slot];
    out.there = pair >= 0;
    if (out.there && a.gather.active > 0) row = pair / a.gather.active;
    if (out.there && a.gather.factors) out.factor = a.gather.factors[pair];
  }
  if (out.there) out.at += row * a.x_stride;
  return out;
}

__device__ unsigned largest_of_row(unsigned top) {
  top = max(top, __shfl_xor_sync(kAll, top, 1));
  return max(top, __shfl_xor_sync(kAll, top, 2));
}
__device__ int sum_of_row(int sum) {
  sum += __shfl_xor_sync(kAll, sum, 1);
  return sum + __shfl_xor_sync(kAll, sum, 2);
}
/// Sizes are compared as whole numbers, so that no NaN is lost.
__device__ unsigned size_of(float x) { return __float_as_uint(x) & 0x7fffffffu; }

/// Four values as codes, halves to even.
__device__ std::uint32_t codes_of(const float (&x)[4], float inverse) {
  std::uint32_t out = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) out |= (static_cast<std::uint32_t>(__float2int_rn(x[i] * inverse)) & 0xffu) << (8 * i);
  return out;
}

/// Steps of max / 127 over 32 columns, as kernel/body_quantize.h. Where not all is finite, codes are zeros and the
/// scale is not finite, so that no result is.
__device__ void convert_codes(const Source& source, unsigned lane, CodeRecord& out) {
  const int t = static_cast<int>(lane % 4);
  float x[2][4];
  unsigned top_bits = 0;
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      x[h][i] = source.value(16 * h + 4 * t + i);
      top_bits = max(top_bits, size_of(x[h][i]));
    }
  top_bits = largest_of_row(top_bits);
  const float top = __uint_as_float(top_bits);
  const float inverse = top < 0x1p-100f ? 0.0f : 127.0f / top;
  const float scale = __uint_as_float(__float_as_uint(top / 127.0f) & ~3u);
  std::uint32_t codes[2];
  int sums[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    codes[h] = codes_of(x[h], inverse);
    sums[h] = sum_of_row(__dp4a(static_cast<int>(codes[h]), 0x01010101, 0));
    out.codes[lane][h] = codes[h];
  }
  if (t != 0) return;
  const unsigned row = lane / 4;
  out.factors[row / 2][row % 2] = scale;
  out.factors[row / 2][2 + row % 2] = scale * -kDotOffset;
  out.minus_sums[0][row] = -scale * static_cast<float>(sums[0] + sums[1]);
  out.minus_sums[1][row] = -scale * static_cast<float>(sums[1]);
}

struct Halves {
  static __device__ std::uint32_t pack(float a, float b) { return pack_half(a, b); }
  static __device__ float2 unpack(std::uint32_t pair) { return unpack_half(pair); }
  /// Brings the largest of the values to 2^14 and more, so that the low half loses nothing at the lower end of its
  /// range.
  static __device__ unsigned scale_exponent(unsigned top_bits) { return min(268u - (top_bits >> 23), 253u); }
};
struct Bfloats {
  static __device__ std::uint32_t pack(float a, float b) { return pack_bfloat(a, b); }
  static __device__ float2 unpack(std::uint32_t pair) { return unpack_bfloat(pair); }
  static __device__ unsigned scale_exponent(unsigned) { return 127; }
};

/// An infinity becomes a NaN in the low part.
template<class Type>
__device__ void convert_pairs(const Source& source, unsigned lane, PairRecord& out) {
  const int t = static_cast<int>(lane % 4);
  float x[8];
  unsigned top_bits = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    x[i] = source.value(i / 2 * 8 + 2 * t + i % 2);
    top_bits = max(top_bits, size_of(x[i]));
  }
  const unsigned exponent = Type::scale_exponent(largest_of_row(top_bits));
  const float factor = __uint_as_float(exponent << 23);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float a = x[2 * i] * factor, b = x[2 * i + 1] * factor;
    const std::uint32_t high = Type::pack(a, b);
    const float2 rounded = Type::unpack(high);
    PairRecord::Half& to = out.values[i / 2][lane];
    to.high[i % 2] = high;
    to.low[i % 2] = Type::pack(a - rounded.x, b - rounded.y);
  }
  if (t == 0) out.scales[lane / 4] = __uint_as_float((254u - exponent) << 23);
}

__device__ void convert_floats(const Source& source, unsigned lane, FloatRecord& out) {
  for (int column = static_cast<int>(lane % 4); column < kStepColumns; column += 4)
    out.values[column][lane / 4] = source.value(column);
}

template<RecordForm kForm>
__global__ void __launch_bounds__(kConvertThreads) convert_kernel(ConvertArgs a) {
  const unsigned lane = threadIdx.x % 32;
  const int record = static_cast<int>(blockIdx.x * (kConvertThreads / 32) + threadIdx.x / 32);
  if (record >= a.tiles * a.steps) return;
  const int step = record % a.steps, slot = record / a.steps * kTileRows + static_cast<int>(lane / 4);
  const Source source = source_of(a, slot, step);
  if constexpr (kForm == RecordForm::kCodes)
    convert_codes(source, lane, static_cast<CodeRecord*>(a.records)[record]);
  else if constexpr (kForm == RecordForm::kHalves)
    convert_pairs<Halves>(source, lane, static_cast<PairRecord*>(a.records)[record]);
  else if constexpr (kForm == RecordForm::kBfloats)
    convert_pairs<Bfloats>(source, lane, static_cast<PairRecord*>(a.records)[record]);
  else
    convert_floats(source, lane, static_cast<FloatRecord*>(a.records)[record]);
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template<RecordForm kForm>
void launch_convert(StreamHandle stream, const ConvertArgs& a) {
  const auto records = std::int64_t{a.tiles} * a.steps;
  launch(convert_kernel<kForm>, static_cast<unsigned>(ceil_div(records, kConvertThreads / 32)), kConvertThreads, 0,
         stream, a);
}

void launch_form(StreamHandle stream, DType type, const ConvertArgs& a) {
  switch (record_form(type)) {
    case RecordForm::kCodes: return launch_convert<RecordForm::kCodes>(stream, a);
    case RecordForm::kHalves: return launch_convert<RecordForm::kHalves>(stream, a);
    case RecordForm::kBfloats: return launch_convert<RecordForm::kBfloats>(stream, a);
    case RecordForm::kFloats: return launch_convert<RecordForm::kFloats>(stream, a);
  }
}

}  // namespace

std::size_t activation_bytes(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(ceil_div(rows, kTileRows) * ceil_div(columns, kStepColumns)) * kRecordBytesMax;
}

void convert_rows(StreamHandle stream, DType type, const float* x, std::int64_t x_stride, std::int64_t rows,
                  std::int64_t columns, void* room) {
  const auto tiles = static_cast<int>(ceil_div(rows, kTileRows)),
             steps = static_cast<int>(ceil_div(columns, kStepColumns));
  launch_form(stream, type, {x, x_stride, static_cast<int>(rows), static_cast<int>(columns), tiles, steps, room, {}});
}

void convert_gathered(StreamHandle stream, DType type, const float* x, std::int64_t x_stride, std::int64_t tiles,
                      std::int64_t columns, const RowGather& gather, void* room) {
  const auto count = static_cast<int>(tiles), steps = static_cast<int>(ceil_div(columns, kStepColumns));
  launch_form(stream, type, {x, x_stride, count * kTileRows, static_cast<int>(columns), count, steps, room, gather});
}

}  // namespace llorch::cuda
