// This machine's devices, measured: the CPU with its memory, NVIDIA GPUs through nvidia-smi (H-10, H-11).
//
// Reads files and runs a program: background thread. Nothing initialises CUDA.
#pragma once

#include <string>
#include <vector>

#include "colony/facts.h"

namespace llorch::hive {

struct DeviceReport {
  std::vector<colony::Device> devices;  // the CPU first
  std::vector<std::string> unreadable;  // lines of nvidia-smi that say nothing
};
[[nodiscard]] DeviceReport find_devices();
/// The memory figures alone, of the CPU.
[[nodiscard]] colony::Device cpu_device();
/// Lines of `nvidia-smi --query-gpu=index,name,memory.total,memory.free,compute_cap,pci.bus_id --format=csv,...`.
void read_gpu_lines(std::string_view text, DeviceReport& report);
/// What a program prints, run by argument vector from PATH; empty when it is not there or fails.
[[nodiscard]] std::string output_of(const std::vector<std::string>& arguments);

}  // namespace llorch::hive
