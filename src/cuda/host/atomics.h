// CUDA's atomic functions. Relaxed would do for the values; sequentially consistent, so that a block that counts itself
// done may be read by the last one, as __threadfence() allows on a GPU.
#pragma once

#include <atomic>
#include <cstdint>

namespace llorch::cuda::host {

/// Replaces *at by step(*at); gives what was there.
template<class T, class Step>
T atomic_step(T* at, Step step) {
  std::atomic_ref<T> cell(*at);
  T old = cell.load();
  while (!cell.compare_exchange_weak(old, step(old))) {
  }
  return old;
}

}  // namespace llorch::cuda::host

#define LLORCH_ATOMICS(T)                                                                         \
  inline T atomicAdd(T* at, T value) {                                                            \
    return llorch::cuda::host::atomic_step(at, [=](T old) { return old + value; });               \
  }                                                                                               \
  inline T atomicMax(T* at, T value) {                                                            \
    return llorch::cuda::host::atomic_step(at, [=](T old) { return old > value ? old : value; }); \
  }                                                                                               \
  inline T atomicMin(T* at, T value) {                                                            \
    return llorch::cuda::host::atomic_step(at, [=](T old) { return old < value ? old : value; }); \
  }                                                                                               \
  inline T atomicOr(T* at, T value) { return std::atomic_ref<T>(*at).fetch_or(value); }           \
  inline T atomicAnd(T* at, T value) { return std::atomic_ref<T>(*at).fetch_and(value); }         \
  inline T atomicXor(T* at, T value) { return std::atomic_ref<T>(*at).fetch_xor(value); }         \
  inline T atomicExch(T* at, T value) { return std::atomic_ref<T>(*at).exchange(value); }         \
  inline T atomicCAS(T* at, T expected, T value) {                                                \
    std::atomic_ref<T>(*at).compare_exchange_strong(expected, value);                             \
    return expected;                                                                              \
  }
LLORCH_ATOMICS(unsigned)
LLORCH_ATOMICS(unsigned long long)
#undef LLORCH_ATOMICS
// Sums of int wrap around.
inline int atomicAdd(int* at, int value) { return std::atomic_ref<int>(*at).fetch_add(value); }
inline int atomicSub(int* at, int value) { return std::atomic_ref<int>(*at).fetch_sub(value); }
inline unsigned atomicSub(unsigned* at, unsigned value) { return std::atomic_ref<unsigned>(*at).fetch_sub(value); }
inline int atomicMax(int* at, int value) {
  return llorch::cuda::host::atomic_step(at, [=](int old) { return old > value ? old : value; });
}
inline int atomicMin(int* at, int value) {
  return llorch::cuda::host::atomic_step(at, [=](int old) { return old < value ? old : value; });
}
inline int atomicOr(int* at, int value) { return std::atomic_ref<int>(*at).fetch_or(value); }
inline int atomicAnd(int* at, int value) { return std::atomic_ref<int>(*at).fetch_and(value); }
inline int atomicExch(int* at, int value) { return std::atomic_ref<int>(*at).exchange(value); }
inline int atomicCAS(int* at, int expected, int value) {
  std::atomic_ref<int>(*at).compare_exchange_strong(expected, value);
  return expected;
}
// The order of these decides the last bits: not for results that must be the same bits.
inline float atomicAdd(float* at, float value) {
  return llorch::cuda::host::atomic_step(at, [=](float old) { return old + value; });
}
inline float atomicExch(float* at, float value) { return std::atomic_ref<float>(*at).exchange(value); }
