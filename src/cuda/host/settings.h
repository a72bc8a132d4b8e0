// What the environment says of the emulated device. Nonsense is an error that names the variable: device_count() and
// all that selects the device give it.
//   LLORCH_CUDA_ORDER = forward (default) | reverse | random:SEED    order.h
//   LLORCH_CUDA_MEMORY_BYTES = 1 ..                                  of the device, default 4 GiB
//   LLORCH_CUDA_THREADS = 1 .. 64                                    host threads that take blocks
//   LLORCH_CUDA_SHARED_BYTES = 49152 .. 232448                       of a block's shared memory, default 232448
//   LLORCH_CUDA_FAULT = lost:N | hang:N                              at the N-th wait for an event the device is gone,
//   or
//                                                                    nothing ever completes
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "cuda/host/order.h"

namespace llorch::cuda::host {

/// A device that fails by plan.
struct Fault {
  enum class Kind { kNone, kLost, kHang, kNoGraphs };  // kNoGraphs: there is no memory for any graph
  Kind kind = Kind::kNone;
  std::uint64_t wait = 0;  // the number of the wait, from 1 on
};

[[nodiscard]] Result<Order> order_of_environment();
[[nodiscard]] Result<std::size_t> memory_bytes_of_environment();
[[nodiscard]] Result<unsigned> threads_of_environment();
[[nodiscard]] Result<std::size_t> shared_bytes_of_environment();
[[nodiscard]] Result<Fault> fault_of_environment();
/// The first of their errors.
[[nodiscard]] Status settings_problem();

}  // namespace llorch::cuda::host
