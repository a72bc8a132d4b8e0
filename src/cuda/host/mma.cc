// The products of a warp: fragments are laid out as matrices, multiplied, and the sums handed back. Layouts and the
// order of sums: cuda/instructions.h.
#include <bit>
#include <cstdint>
#include <cstring>

#include "cuda/host/poison.h"
#include "cuda/instructions.h"

namespace llorch::cuda::host {
namespace {

constexpr unsigned kRows = 16, kColumns = 8;

/// half_to_float() without a branch, so that loops over it become vectors.
float widen_half(std::uint16_t half) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(half & 0x7fffu) << 13,
                      sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t scaled = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const std::uint32_t special = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;  // infinities, NaNs
  return std::bit_cast<float>(scaled | special | sign);
}
float widen_bfloat(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

/// The matrices of a product over K, of elements as they lie in registers.
template<class Element, class T, int K>
struct Product {
  static constexpr unsigned kPerRegister = 4 / sizeof(Element);
  Element a[kRows][K], b[kColumns][K];
  T d[kRows][kColumns];

  explicit Product(Payloads lanes) {
    for (unsigned lane = 0; lane < 32; ++lane) {
      const auto& from = *static_cast<const MmaLane<T>*>(lanes[lane]);
      const unsigned group = lane / 4, column = lane % 4 * kPerRegister;
      for (unsigned i = 0; i < 4; ++i) std::memcpy(&a[group + i % 2 * 8][column + i / 2 * (K / 2)], &from.a[i], 4);
      for (unsigned i = 0; i < 2; ++i) std::memcpy(&b[group][column + i * (K / 2)], &from.b[i], 4);
      for (unsigned i = 0; i < 4; ++i) d[group + i / 2 * 8][lane % 4 * 2 + i % 2] = from.d[i];
    }
  }
  void hand_back(Payloads lanes) const {
    for (unsigned lane = 0; lane < 32; ++lane)
      for (unsigned i = 0; i < 4; ++i)
        static_cast<MmaLane<T>*>(lanes[lane])->d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
};

template<float (*Widen)(std::uint16_t)>
void multiply_floats(Payloads lanes) {
  constexpr int kDepth = 16;
  Product<std::uint16_t, float, kDepth> product(lanes);
  float a[kRows][kDepth], b[kDepth][kColumns];
  for (unsigned row = 0; row < kRows; ++row)
    for (int k = 0; k < kDepth; ++k) a[row][k] = Widen(product.a[row][k]);
  for (unsigned column = 0; column < kColumns; ++column)
    for (int k = 0; k < kDepth; ++k) b[k][column] = Widen(product.b[column][k]);
  for (unsigned row = 0; row < kRows; ++row)
    for (int k = 0; k < kDepth; ++k)
      for (unsigned column = 0; column < kColumns; ++column) product.d[row][column] += a[row][k] * b[k][column];
  product.hand_back(lanes);
}

template<class A>
void multiply_bytes(Payloads lanes) {
  constexpr int kDepth = 32;
  Product<std::uint8_t, int, kDepth> product(lanes);
  for (unsigned row = 0; row < kRows; ++row)
    for (unsigned column = 0; column < kColumns; ++column) {
      int sum = 0;
      for (int k = 0; k < kDepth; ++k)
        sum += static_cast<A>(product.a[row][k]) * static_cast<std::int8_t>(product.b[column][k]);
      product.d[row][column] =
          static_cast<int>(static_cast<unsigned>(product.d[row][column]) + static_cast<unsigned>(sum));
    }
  product.hand_back(lanes);
}

}  // namespace

void combine_bf16(Payloads lanes) { multiply_floats<widen_bfloat>(lanes); }
void combine_f16(Payloads lanes) { multiply_floats<widen_half>(lanes); }
void combine_s8(Payloads lanes) { multiply_bytes<std::int8_t>(lanes); }
void combine_u8s8(Payloads lanes) { multiply_bytes<std::uint8_t>(lanes); }

void check_row(const void* row, std::source_location where) {
  check_shared(row, 16, 16, where);
  if (holds_poison(row, 16))
    kernel_error(where,
                 "ldmatrix reads shared memory that nothing wrote, or that an asynchronous copy was not waited for");
}

}  // namespace llorch::cuda::host
