// What a worker program computes with: one backend, which its kind says (W-02).
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "device/open.h"
#include "device/roofline.h"

namespace llorch::worker {

/// Of a device that computes apart from the host.
struct DeviceUse {
  std::int64_t bytes = 0;              // of its memory
  std::chrono::nanoseconds waited{0};  // by the host, for its steps so far
};

struct Backend {
  std::string kind;                                   // as hives and the queen call it: "cpu", "accelerate", "cuda"
  std::string summary;                                // for --help
  const ProductProvider* products = nullptr;          // null: the kernels' own
  CudaOpener cuda = nullptr;                          // opens the CUDA device that computes; null: the CPU
  DeviceUse (*use)(const Device&) = nullptr;          // of a device that it opened
  Result<Roofline> (*roofline)(int index) = nullptr;  // of such a device; null: the CPU's is measured
  [[nodiscard]] std::string program() const { return "llorch-worker-" + kind; }
  [[nodiscard]] std::string device() const { return cuda ? "cuda" : "cpu"; }
  /// As health and heartbeats call what holds the model.
  [[nodiscard]] std::string memory() const { return cuda ? "vram-only" : "cpu"; }
  /// `isa` of the CPU's kernels, and what multiplies.
  [[nodiscard]] std::string isa(std::string_view kernels) const {
    if (cuda) return kind;
    return products ? std::string(kernels) + "+" + std::string(products->name()) : std::string(kernels);
  }
};

/// That of this program. Each file of backend/ defines it, so that a program with two of them does not link.
[[nodiscard]] const Backend& backend();

}  // namespace llorch::worker
