// This machine's devices, measured: the CPU with its memory, NVIDIA GPUs through nvidia-smi (H-10, H-11).
//
// Reads files and runs a program: background thread. Nothing initialises CUDA.
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
[[nodiscard]] DeviceReport find_devices();
/// The memory figures alone, of the CPU.
[[nodiscard]] colony::Device cpu_device();
/// Lines of `nvidia-smi --query-gpu=` with kGpuColumns `--format=csv,noheader,nounits`.
inline constexpr const char* kGpuColumns =
    "index,name,memory.total,memory.free,compute_cap,pci.bus_id,utilization.gpu,temperature.gpu";
void read_gpu_lines(std::string_view text, DeviceReport& report);
/// What a program prints, run by argument vector from PATH; empty when it is not there or fails.
[[nodiscard]] std::string output_of(const std::vector<std::string>& arguments);

}  // namespace llorch::hive
