// launch(kernel, grid, block, shared_bytes, stream, args...): the one way to start a kernel.
//
// It returns nothing. A launch that is refused, and a kernel that fails, become the process's first failure: every
// Stream::synchronize() and first_failure() of cuda/runtime.h gives it from then on. So the many launches of a step are
// written one after another and looked at once, at its end. The text names the kernel (on a GPU: of refused launches).
// Without a stream nothing is launched. Arguments are converted to the kernel's parameters and copied. shared_bytes
// above 48 KiB are asked for by themselves. For `.cu` files: C++20.
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>

#include "cuda/handles.h"
#include "cuda/platform.h"

#ifdef LLORCH_CUDA_EMULATED
#include "cuda/host/kernel_call.h"
#else
#include "cuda/driver/launch.h"
#endif

namespace llorch::cuda {

#ifdef LLORCH_CUDA_EMULATED
template<class... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, StreamHandle stream,
            const std::type_identity_t<Parameters>&... arguments) {
  if (!stream) return;
  host::KernelCall call{reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, {}};
  call.thread = [kernel, copies = std::tuple<Parameters...>(arguments...)] { std::apply(kernel, copies); };
  host::enqueue(stream, std::move(call));
}
#else
template<class... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes, StreamHandle stream,
            const std::type_identity_t<Parameters>&... arguments) {
  if (!stream) return;
  std::tuple<Parameters...> copies(arguments...);
  std::apply(
      [&](auto&... each) {
        void* pointers[sizeof...(Parameters) + 1] = {const_cast<void*>(static_cast<const void*>(&each))..., nullptr};
        launch_checked(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream, pointers);
      },
      copies);
}
#endif

}  // namespace llorch::cuda
