// The devices that a build can be tested on, by name: "reference", the kernels of each instruction set of this machine,
// and "accelerate": the best kernels with a library's matrix products, where the build has one. In programs that are
// built with LLORCH_TEST_CUDA, "cuda" alone stands for all of these but the reference.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "device/cpu/cpu_device.h"
#include "device/open.h"
#include "kernel/kernels.h"
#include "test_data.h"
#ifdef LLORCH_HAS_CBLAS
#include "device/accelerate/cblas.h"
#endif
#ifdef LLORCH_TEST_CUDA
#include "cuda_devices.h"
#endif

namespace llorch {

#ifdef LLORCH_TEST_CUDA
inline constexpr bool kCudaAlone = true;
#else
inline constexpr bool kCudaAlone = false;
#endif
#ifdef LLORCH_CUDA_EMULATED
inline constexpr bool kCudaEmulated = kCudaAlone;
#else
inline constexpr bool kCudaEmulated = false;
#endif

inline const ProductProvider* test_products() {
#ifdef LLORCH_HAS_CBLAS
  return &cblas_products();
#else
  return nullptr;
#endif
}

/// Of a device by its name: what ModelOptions and make_cpu_device() take.
inline const ProductProvider* products_of(const std::string& name) {
  return name == "accelerate" ? test_products() : nullptr;
}
inline std::string isa_of(const std::string& name) { return name == "accelerate" || name == "cuda" ? "" : name; }
inline CudaOpener cuda_of([[maybe_unused]] const std::string& name) {
#ifdef LLORCH_TEST_CUDA
  if (name == "cuda") return &open_cuda_device;
#endif
  return nullptr;
}
/// Why the devices of this program cannot be tested here; empty where they can.
inline std::string no_test_device() {
#ifdef LLORCH_TEST_CUDA
  if (const auto count = cuda::device_count(); !count) return "not run: " + count.error().message;
#endif
  return {};
}
inline std::unique_ptr<Device> test_device(const std::string& name, int threads) {
  return make_cpu_device(isa_of(name), threads, {}, products_of(name)).value();
}

/// All but "reference", best first, "accelerate" last.
inline std::vector<std::string> fast_devices() {
#ifdef LLORCH_TEST_CUDA
  return {"cuda"};
#endif
  int count = 0;
  const auto* const* all = kernel::all_kernels(count);
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.emplace_back(all[i]->name);
  if (test_products())
    names.emplace_back("accelerate");
  else if (static bool told = false; !std::exchange(told, true))
    std::printf("not run: on accelerate: this build has no CBLAS\n");
  return names;
}
inline std::vector<std::string> all_devices() {
  std::vector<std::string> names = fast_devices();
  names.insert(names.begin(), "reference");
  return names;
}
/// All of `devices`. Under sanitizers one of them, the next one at each call with the same `turn`: for a test that does
/// the same with many models, each device runs with many of them, and each model with one device.
inline std::vector<std::string> in_turn(const std::vector<std::string>& devices, std::size_t& turn) {
  if (!kSanitized) return devices;
  return {devices[turn++ % devices.size()]};
}

}  // namespace llorch
