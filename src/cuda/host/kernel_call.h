// A launch on the emulated device, as it waits in its stream.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>

#include "cuda/handles.h"
#include "cuda/host/types.h"

namespace llorch::cuda::host {

struct KernelCall {
  const void* kernel = nullptr;  // for its name
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  std::function<void()> thread;  // what each thread runs
};

void enqueue(StreamHandle stream, KernelCall call);

}  // namespace llorch::cuda::host
