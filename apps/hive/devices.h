// This machine's devices, measured: the CPU with its memory, NVIDIA GPUs in the words of nvidia-smi (H-10, H-11).
//
// cpu_device() reads files: not on the event loop. Nothing initialises CUDA. When they are measured: device_watch.h.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "colony/facts.h"

namespace llorch::hive {

/// What a GPU does now; absent where its driver does not say.
struct GpuUse {
  std::optional<std::int64_t> util_pct, temp_c;
};

struct DeviceReport {
  std::vector<colony::Device> devices;  // the CPU first
  std::map<std::string, GpuUse> use;    // of GPUs, by id
  std::vector<std::string> unreadable;  // lines of nvidia-smi that say nothing
};
/// The memory figures alone, of the CPU.
[[nodiscard]] colony::Device cpu_device();
/// Lines of `nvidia-smi --query-gpu=` with kGpuColumns `--format=csv,noheader,nounits`.
inline constexpr const char* kGpuColumns =
    "index,name,memory.total,memory.free,compute_cap,pci.bus_id,utilization.gpu,temperature.gpu";
void read_gpu_lines(std::string_view text, DeviceReport& report);

}  // namespace llorch::hive
