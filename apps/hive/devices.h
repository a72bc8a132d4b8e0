// This machine's devices, measured: the CPU with its memory; NVIDIA GPUs as NVML tells of them, else in the words of
// nvidia-smi (H-10, H-11).
//
// cpu_device() reads files: not on the event loop. Nothing initialises CUDA. When they are measured: device_watch.h.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "colony/facts.h"
#include "gpu/nvml.h"

namespace llorch::hive {

/// What a GPU does now; absent where its driver does not say.
struct GpuUse {
  std::optional<std::int64_t> util_pct, temp_c;
  std::map<std::int64_t, std::int64_t> process_bytes;  // device memory by pid
  bool lost = false;                                   // nothing runs there, and what ran has no memory any more
};

struct DeviceReport {
  std::optional<std::string> visible;   // what CUDA_VISIBLE_DEVICES holds: other GPUs are left out
  std::vector<colony::Device> devices;  // the CPU first
  std::map<std::string, GpuUse> use;    // of GPUs, by id
  std::vector<std::string> unreadable;  // what was said of a GPU and cannot be
};
/// Whether `visible` names a GPU: by its number in the order of the PCI bus, or by the first letters of its UUID.
[[nodiscard]] bool is_visible(int index, std::string_view uuid, const std::optional<std::string>& visible);
/// The memory figures alone, of the CPU.
[[nodiscard]] colony::Device cpu_device();
/// Lines of `nvidia-smi --query-gpu=` with kGpuColumns `--format=csv,noheader,nounits`; the last column may be missing.
inline constexpr const char* kGpuColumns =
    "index,name,memory.total,memory.free,compute_cap,pci.bus_id,utilization.gpu,temperature.gpu,uuid";
void read_gpu_lines(std::string_view text, DeviceReport& report);
/// What NVML has told.
void add_gpus(const gpu::Reading& reading, DeviceReport& report);
/// GPUs, of which nothing is known that speaks against them, cannot be used for this reason.
void add_problem(const std::string& problem, DeviceReport& report);

}  // namespace llorch::hive
