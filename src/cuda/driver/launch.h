// The launch that cuda/launch.h calls from `.cu` files.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "cuda/handles.h"

namespace llorch::cuda {

/// Asks for shared memory beyond 48 KiB, launches, and keeps what was refused as the first failure.
void launch_checked(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes, StreamHandle stream,
                    void** arguments);

}  // namespace llorch::cuda
