// cuda/instructions.h on a GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#define LLORCH_DEVICE __device__ __forceinline__

namespace llorch::cuda {

#define LLORCH_MMA(name, shape, type, constraint)                                                    \
  LLORCH_DEVICE void name(type(&d)[4], const std::uint32_t(&a)[4], const std::uint32_t(&b)[2]) {     \
    asm("mma.sync.aligned." shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
        : "+" constraint(d[0]), "+" constraint(d[1]), "+" constraint(d[2]), "+" constraint(d[3])     \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                         \
  }
LLORCH_MMA(mma_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32", float, "f")
LLORCH_MMA(mma_f16, "m16n8k16.row.col.f32.f16.f16.f32", float, "f")
LLORCH_MMA(mma_s8, "m16n8k32.row.col.s32.s8.s8.s32", int, "r")
LLORCH_MMA(mma_u8s8, "m16n8k32.row.col.s32.u8.s8.s32", int, "r")
#undef LLORCH_MMA
LLORCH_DEVICE void mma_s8(int (&d)[4], const std::uint32_t (&a)[2], const std::uint32_t (&b)[1]) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

LLORCH_DEVICE std::uint32_t shared_address(const void* at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
}

#define LLORCH_LDMATRIX(name, suffix)                                                         \
  LLORCH_DEVICE void name(std::uint32_t(&r)[1], const void* row) {                            \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1" suffix ".shared.b16 {%0}, [%1];"             \
                 : "=r"(r[0])                                                                 \
                 : "r"(shared_address(row))                                                   \
                 : "memory");                                                                 \
  }                                                                                           \
  LLORCH_DEVICE void name(std::uint32_t(&r)[2], const void* row) {                            \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" suffix ".shared.b16 {%0, %1}, [%2];"         \
                 : "=r"(r[0]), "=r"(r[1])                                                     \
                 : "r"(shared_address(row))                                                   \
                 : "memory");                                                                 \
  }                                                                                           \
  LLORCH_DEVICE void name(std::uint32_t(&r)[4], const void* row) {                            \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" suffix ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                             \
                 : "r"(shared_address(row))                                                   \
                 : "memory");                                                                 \
  }
LLORCH_LDMATRIX(ldmatrix, "")
LLORCH_LDMATRIX(ldmatrix_transposed, ".trans")
#undef LLORCH_LDMATRIX

class SharedTarget {
 public:
  LLORCH_DEVICE SharedTarget(void* at) : at_(shared_address(at)) {}
  LLORCH_DEVICE SharedTarget operator+(unsigned bytes) const {
    SharedTarget out = *this;
    out.at_ += bytes;
    return out;
  }
  LLORCH_DEVICE std::uint32_t address() const { return at_; }

 private:
  std::uint32_t at_;
};
template<int Bytes>
LLORCH_DEVICE void copy_async(SharedTarget shared, const void* global, unsigned source_bytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16)  // past the L1 cache
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared.address()), "l"(global), "r"(source_bytes)
                 : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared.address()), "l"(global), "n"(Bytes),
                 "r"(source_bytes)
                 : "memory");
}
template<int Bytes>
LLORCH_DEVICE void copy_async(SharedTarget shared, const void* global) {
  copy_async<Bytes>(shared, global, static_cast<unsigned>(Bytes));
}
LLORCH_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template<int Groups>
LLORCH_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Groups) : "memory");
}

LLORCH_DEVICE uint4 load16(const void* at) { return *static_cast<const uint4*>(at); }
LLORCH_DEVICE uint2 load8(const void* at) { return *static_cast<const uint2*>(at); }
LLORCH_DEVICE uint4 load16_once(const void* at) {
  uint4 out;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(out.x), "=r"(out.y), "=r"(out.z), "=r"(out.w)
      : "l"(at));
  return out;
}
LLORCH_DEVICE uint2 load8_once(const void* at) {
  uint2 out;
  asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(out.x), "=r"(out.y) : "l"(at));
  return out;
}
LLORCH_DEVICE void store16(void* at, uint4 value) { *static_cast<uint4*>(at) = value; }

LLORCH_DEVICE Half to_half(float value) {
  Half out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
  return out;
}
LLORCH_DEVICE Bfloat to_bfloat(float value) {
  Bfloat out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
  return out;
}
LLORCH_DEVICE float to_float(Half value) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(value.bits));
  return out;
}
LLORCH_DEVICE float to_float(Bfloat value) { return __uint_as_float(static_cast<std::uint32_t>(value.bits) << 16); }
LLORCH_DEVICE std::uint32_t pack_half(float low, float high) {
  std::uint32_t out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
LLORCH_DEVICE std::uint32_t pack_bfloat(float low, float high) {
  std::uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
LLORCH_DEVICE float2 unpack_half(std::uint32_t pair) {
  return make_float2(to_float(Half{static_cast<std::uint16_t>(pair & 0xffffu)}),
                     to_float(Half{static_cast<std::uint16_t>(pair >> 16)}));
}
LLORCH_DEVICE float2 unpack_bfloat(std::uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

/// The name of a register that nobody uses: comments do not reach the object.
template<int Panels, int Tiles, int Macs, int Mmas, int ChunkSteps, int Ahead, int StepBytes, int SuperBytes,
         int RecordBytes, int SharedBytes>
LLORCH_DEVICE void note() {
  asm volatile(
      "{ .reg .b32 note_panels_%0_tiles_%1_macs_%2_mmas_%3_chunk_%4_ahead_%5_step_%6_super_%7_record_%8_shared_%9; }" ::
          "n"(Panels),
      "n"(Tiles), "n"(Macs), "n"(Mmas), "n"(ChunkSteps), "n"(Ahead), "n"(StepBytes), "n"(SuperBytes), "n"(RecordBytes),
      "n"(SharedBytes));
}

LLORCH_DEVICE int dot4_u8s8(std::uint32_t unsigned_bytes, std::uint32_t signed_bytes, int sum) {
  int out;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(out) : "r"(unsigned_bytes), "r"(signed_bytes), "r"(sum));
  return out;
}
LLORCH_DEVICE float exp2_approx(float value) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(value));
  return out;
}

}  // namespace llorch::cuda
#undef LLORCH_DEVICE
