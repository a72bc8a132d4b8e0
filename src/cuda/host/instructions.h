// cuda/instructions.h on the emulated device.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>

#include "base/half.h"
#include "cuda/host/thread.h"
#include "cuda/host/types.h"

#define LLORCH_WHERE std::source_location where = std::source_location::current()

namespace llorch::cuda {
namespace host {

/// One lane's part of a product: d += a * b.
template<class T>
struct MmaLane {
  std::uint32_t a[4], b[2];
  T d[4];
};
// Products of a warp, from the fragments of its lanes and back into them (mma.cc).
void combine_bf16(Payloads lanes);
void combine_f16(Payloads lanes);
void combine_s8(Payloads lanes);
void combine_u8s8(Payloads lanes);

template<class T>
void mma(const char* name, void (*combine)(Payloads), T (&d)[4], const std::uint32_t (&a)[4],
         const std::uint32_t (&b)[2], std::source_location where) {
  MmaLane<T> lane;
  std::memcpy(lane.a, a, sizeof lane.a);
  std::memcpy(lane.b, b, sizeof lane.b);
  std::memcpy(lane.d, d, sizeof lane.d);
  warp_collective(0xffffffffu, name, where, &lane, combine);
  std::memcpy(d, lane.d, sizeof lane.d);
}

struct LdmatrixLane {
  const void* row;
  std::uint32_t r[4];
};
template<int N, bool Transposed>
void combine_ldmatrix(Payloads lanes) {
  for (unsigned lane = 0; lane < 32; ++lane) {
    auto* out = static_cast<LdmatrixLane*>(lanes[lane]);
    for (unsigned m = 0; m < N; ++m) {
      std::uint16_t pair[2];
      for (unsigned i = 0; i < 2; ++i) {
        const unsigned row = Transposed ? lane % 4 * 2 + i : lane / 4,
                       column = Transposed ? lane / 4 : lane % 4 * 2 + i;
        const auto* from = static_cast<const LdmatrixLane*>(lanes[8 * m + row])->row;
        std::memcpy(&pair[i], static_cast<const std::uint16_t*>(from) + column, 2);
      }
      out->r[m] = pair[0] | static_cast<std::uint32_t>(pair[1]) << 16;
    }
  }
}
/// An address that is used must be of 16 aligned bytes of shared memory that were written.
void check_row(const void* row, std::source_location where);

template<bool Transposed, int N>
void ldmatrix(const char* name, std::uint32_t (&r)[N], const void* row, std::source_location where) {
  static_assert(N == 1 || N == 2 || N == 4);
  if (this_thread->lane < 8 * N) check_row(row, where);
  LdmatrixLane lane{row, {}};
  warp_collective(0xffffffffu, name, where, &lane, combine_ldmatrix<N, Transposed>);
  std::memcpy(r, lane.r, sizeof r);
}

template<class T>
T load(const void* at, std::source_location where) {
  check_global(at, sizeof(T), sizeof(T), where);
  T out;
  std::memcpy(&out, at, sizeof out);
  return out;
}

}  // namespace host

inline void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], LLORCH_WHERE) {
  host::mma("mma_bf16", host::combine_bf16, d, a, b, where);
}
inline void mma_f16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], LLORCH_WHERE) {
  host::mma("mma_f16", host::combine_f16, d, a, b, where);
}
inline void mma_s8(int (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], LLORCH_WHERE) {
  host::mma("mma_s8", host::combine_s8, d, a, b, where);
}
inline void mma_s8(int (&d)[4], const std::uint32_t (&a)[2], const std::uint32_t (&b)[1], LLORCH_WHERE) {
  const std::uint32_t a_and_zeros[4] = {a[0], a[1], 0, 0}, b_and_zeros[2] = {b[0], 0};
  mma_s8(d, a_and_zeros, b_and_zeros, where);
}
inline void mma_u8s8(int (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], LLORCH_WHERE) {
  host::mma("mma_u8s8", host::combine_u8s8, d, a, b, where);
}

template<int N>
void ldmatrix(std::uint32_t (&r)[N], const void* row, LLORCH_WHERE) {
  host::ldmatrix<false>("ldmatrix", r, row, where);
}
template<int N>
void ldmatrix_transposed(std::uint32_t (&r)[N], const void* row, LLORCH_WHERE) {
  host::ldmatrix<true>("ldmatrix_transposed", r, row, where);
}

class SharedTarget {
 public:
  SharedTarget(void* at) : at_(static_cast<std::byte*>(at)) {}
  SharedTarget operator+(unsigned bytes) const { return at_ + bytes; }
  [[nodiscard]] void* address() const { return at_; }

 private:
  std::byte* at_;
};
template<int Bytes>
void copy_async(SharedTarget shared, const void* global, unsigned source_bytes, LLORCH_WHERE) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  host::copy_begin(shared.address(), global, Bytes, source_bytes, where);
}
template<int Bytes>
void copy_async(SharedTarget shared, const void* global, LLORCH_WHERE) {
  copy_async<Bytes>(shared, global, static_cast<unsigned>(Bytes), where);
}
inline void copy_commit() { host::copy_commit(); }
template<int Groups>
void copy_wait() {
  host::copy_wait(Groups);
}

inline uint4 load16(const void* at, LLORCH_WHERE) { return host::load<uint4>(at, where); }
inline uint4 load16_once(const void* at, LLORCH_WHERE) { return host::load<uint4>(at, where); }
inline uint2 load8(const void* at, LLORCH_WHERE) { return host::load<uint2>(at, where); }
inline uint2 load8_once(const void* at, LLORCH_WHERE) { return host::load<uint2>(at, where); }
inline void store16(void* at, uint4 value) { *static_cast<uint4*>(at) = value; }

inline Half to_half(float value) { return {float_to_half(value)}; }
inline Bfloat to_bfloat(float value) { return {float_to_bfloat(value)}; }
inline float to_float(Half value) { return half_to_float(value.bits); }
inline float to_float(Bfloat value) { return bfloat_to_float(value.bits); }
inline std::uint32_t pack_half(float low, float high) {
  return float_to_half(low) | static_cast<std::uint32_t>(float_to_half(high)) << 16;
}
inline std::uint32_t pack_bfloat(float low, float high) {
  return float_to_bfloat(low) | static_cast<std::uint32_t>(float_to_bfloat(high)) << 16;
}
inline float2 unpack_half(std::uint32_t pair) {
  return {half_to_float(static_cast<std::uint16_t>(pair)), half_to_float(static_cast<std::uint16_t>(pair >> 16))};
}
inline float2 unpack_bfloat(std::uint32_t pair) {
  return {bfloat_to_float(static_cast<std::uint16_t>(pair)), bfloat_to_float(static_cast<std::uint16_t>(pair >> 16))};
}

template<int...>
void note() {}

inline int dot4_u8s8(std::uint32_t unsigned_bytes, std::uint32_t signed_bytes, int sum) {
  auto out = static_cast<unsigned>(sum);
  for (int i = 0; i < 32; i += 8)
    out += static_cast<unsigned>(static_cast<int>((unsigned_bytes >> i) & 0xff) *
                                 static_cast<signed char>(signed_bytes >> i));
  return static_cast<int>(out);
}
inline float exp2_approx(float value) {
  const float out = std::exp2(value);
  return out < 0x1p-126f ? 0.0f : out;
}

}  // namespace llorch::cuda

template<class T>
T __ldg(const T* at, LLORCH_WHERE) {
  return llorch::cuda::host::load<T>(at, where);
}

#undef LLORCH_WHERE
