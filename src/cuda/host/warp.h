// Warp functions of CUDA C++ over warp_collective() (thread.h). A lane that is read must be in the mask: what a GPU
// leaves undefined ends the launch here. Threads that have exited must not be named by a mask.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/host/thread.h"

namespace llorch::cuda::host {

template<class T>
struct ShuffleLane {
  T value;
  int source;  // the lane to read
};

/// Gives the value of lane `source`, which must be in the mask.
template<class T>
T shuffle(unsigned mask, const char* name, T value, int source, std::source_location where) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  if (!((mask >> source) & 1))
    kernel_error(where, "%s reads lane %d, which its mask %08x leaves out", name, source, mask);
  ShuffleLane<T> mine{value, source};
  warp_collective(mask, name, where, &mine, [](Payloads lanes) {
    T values[32];
    for (int lane = 0; lane < 32; ++lane)
      if (lanes[lane]) values[lane] = static_cast<const ShuffleLane<T>*>(lanes[lane])->value;
    for (void* each : lanes)
      if (auto* lane = static_cast<ShuffleLane<T>*>(each)) lane->value = values[lane->source];
  });
  return mine.value;
}

/// All lanes get what `step` makes of all values, in the order of lanes.
template<auto Step, class T>
T reduce(unsigned mask, const char* name, T value, std::source_location where) {
  warp_collective(mask, name, where, &value, [](Payloads lanes) {
    T sum{};
    bool first = true;
    for (void* each : lanes) {
      if (!each) continue;
      sum = first ? *static_cast<T*>(each) : Step(sum, *static_cast<T*>(each));
      first = false;
    }
    for (void* each : lanes)
      if (each) *static_cast<T*>(each) = sum;
  });
  return value;
}

inline unsigned ballot(unsigned mask, const char* name, bool value, std::source_location where) {
  const unsigned mine = value ? 1u << this_thread->lane : 0;
  return reduce<[](unsigned a, unsigned b) { return a | b; }>(mask, name, mine, where);
}

}  // namespace llorch::cuda::host

#define LLORCH_WHERE std::source_location where = std::source_location::current()

inline void __syncwarp(unsigned mask = 0xffffffffu, LLORCH_WHERE) {
  char nothing = 0;
  llorch::cuda::host::warp_collective(mask, "__syncwarp", where, &nothing, [](llorch::cuda::host::Payloads) {});
}

template<class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, LLORCH_WHERE) {
  const int lane = static_cast<int>(llorch::cuda::host::this_thread->lane), first = lane & ~(width - 1);
  return llorch::cuda::host::shuffle(mask, "__shfl_sync", value, first + (source & (width - 1)), where);
}
// Beyond the segment a lane gets its own value.
template<class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, LLORCH_WHERE) {
  const int lane = static_cast<int>(llorch::cuda::host::this_thread->lane), from = lane - static_cast<int>(delta);
  const bool inside = from >= (lane & ~(width - 1));
  return llorch::cuda::host::shuffle(mask, "__shfl_up_sync", value, inside ? from : lane, where);
}
template<class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, LLORCH_WHERE) {
  const int lane = static_cast<int>(llorch::cuda::host::this_thread->lane), from = lane + static_cast<int>(delta);
  const bool inside = from <= (lane | (width - 1));
  return llorch::cuda::host::shuffle(mask, "__shfl_down_sync", value, inside ? from : lane, where);
}
template<class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, LLORCH_WHERE) {
  const int lane = static_cast<int>(llorch::cuda::host::this_thread->lane), from = lane ^ lanes;
  const bool inside = from <= (lane | (width - 1));
  return llorch::cuda::host::shuffle(mask, "__shfl_xor_sync", value, inside ? from : lane, where);
}

inline unsigned __ballot_sync(unsigned mask, int value, LLORCH_WHERE) {
  return llorch::cuda::host::ballot(mask, "__ballot_sync", value != 0, where);
}
inline int __any_sync(unsigned mask, int value, LLORCH_WHERE) {
  return llorch::cuda::host::ballot(mask, "__any_sync", value != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int value, LLORCH_WHERE) {
  return llorch::cuda::host::ballot(mask, "__all_sync", value == 0, where) == 0;
}

#define LLORCH_REDUCE(name, T, step)                                                         \
  inline T __reduce_##name##_sync(unsigned mask, T value, LLORCH_WHERE) {                    \
    constexpr auto kStep = [](T a, T b) -> T { return step; };                               \
    return llorch::cuda::host::reduce<kStep>(mask, "__reduce_" #name "_sync", value, where); \
  }
LLORCH_REDUCE(add, unsigned, a + b)
LLORCH_REDUCE(min, unsigned, std::min(a, b))
LLORCH_REDUCE(max, unsigned, std::max(a, b))
LLORCH_REDUCE(min, int, std::min(a, b))
LLORCH_REDUCE(max, int, std::max(a, b))
LLORCH_REDUCE(and, unsigned, a& b)
LLORCH_REDUCE(or, unsigned, a | b)
LLORCH_REDUCE(xor, unsigned, a ^ b)
#undef LLORCH_REDUCE
inline int __reduce_add_sync(unsigned mask, int value, LLORCH_WHERE) {
  return static_cast<int>(__reduce_add_sync(mask, static_cast<unsigned>(value), where));
}
#undef LLORCH_WHERE
