#include "quant/table.h"

#include <cstring>

#include "quant/bits.h"
#include "quant_formats.inc"  // includes every quant/<format>.h

namespace llorch::quant {
namespace {

const std::uint8_t* bytes(const std::byte* p) { return reinterpret_cast<const std::uint8_t*>(p); }

template<class F>
struct BlockRow {
  static constexpr int kBlock = static_cast<int>(info(F::type).block);
  static constexpr int kBytes = static_cast<int>(info(F::type).bytes);

  static void block(const std::uint8_t* b, float* out) {
    std::uint8_t codes[kBlock];
    F::codes(b, codes);
    for (int s = 0; s < kBlock / F::sub; ++s) {
      const SubScale scale = F::scale(b, s);
      for (int i = s * F::sub; i < (s + 1) * F::sub; ++i)
        out[i] = scale.scale * static_cast<float>(codes[i] - F::zero) - scale.minimum;
    }
  }
  static void dequantize(const std::byte* row, std::uint64_t n, float* out) {
    for (std::uint64_t i = 0; i < n / kBlock; ++i) block(bytes(row) + i * kBytes, out + i * kBlock);
  }
  static void quantize(const float* x, std::uint64_t n, std::byte* row) {
    for (std::uint64_t i = 0; i < n / kBlock; ++i)
      F::quantize(x + i * kBlock, reinterpret_cast<std::uint8_t*>(row) + i * kBytes);
  }
  static double dot(const std::byte* row, const float* x, std::uint64_t n) {
    double sum = 0;
    float values[kBlock];
    for (std::uint64_t i = 0; i < n / kBlock; ++i) {
      block(bytes(row) + i * kBytes, values);
      for (int j = 0; j < kBlock; ++j)
        sum += static_cast<double>(values[j]) * static_cast<double>(x[i * kBlock + static_cast<std::uint64_t>(j)]);
    }
    return sum;
  }
  static constexpr RowOps kOps{F::type, F::sub, F::zero, dequantize, quantize, dot, F::codes, F::scale};
};

template<DType kType, class Stored, float (*kLoad)(Stored), Stored (*kStore)(float)>
struct PlainRow {
  static Stored at(const std::byte* row, std::uint64_t i) { return load<Stored>(bytes(row) + i * sizeof(Stored)); }
  static void dequantize(const std::byte* row, std::uint64_t n, float* out) {
    for (std::uint64_t i = 0; i < n; ++i) out[i] = kLoad(at(row, i));
  }
  static void quantize(const float* x, std::uint64_t n, std::byte* row) {
    for (std::uint64_t i = 0; i < n; ++i)
      store(reinterpret_cast<std::uint8_t*>(row) + i * sizeof(Stored), kStore(x[i]));
  }
  static double dot(const std::byte* row, const float* x, std::uint64_t n) {
    double sum = 0;
    for (std::uint64_t i = 0; i < n; ++i) sum += static_cast<double>(kLoad(at(row, i))) * static_cast<double>(x[i]);
    return sum;
  }
  static constexpr RowOps kOps{kType, 0, 0, dequantize, quantize, dot, nullptr, nullptr};
};

float same(float x) { return x; }

constexpr const RowOps* kTable[] = {
    &PlainRow<DType::kF32, float, same, same>::kOps,
    &PlainRow<DType::kF16, std::uint16_t, half_to_float, float_to_half>::kOps,
    &PlainRow<DType::kBF16, std::uint16_t, bfloat_to_float, float_to_bfloat>::kOps,
#define LLORCH_FORMAT(format) &BlockRow<format>::kOps,
#include "quant_table.inc"
#undef LLORCH_FORMAT
};

}  // namespace

const RowOps* find_row_ops(DType type) {
  for (const RowOps* ops : kTable)
    if (ops->type == type) return ops;
  return nullptr;
}

}  // namespace llorch::quant
