// What is wrong with this machine's GPUs, in words, with what to do about it (`llorch doctor`).
//
// look() reads files and asks NVML: not on an event loop. diagnose() is a pure function of what was found. No GPU is no
// fault: models run on the CPU.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "gpu/nvml.h"

namespace llorch::gpu {

struct MachineFacts {
  bool hardware = false;                    // a graphics device of NVIDIA's is on the PCI bus
  std::optional<std::string> library_flaw;  // why NVML cannot be opened
  Reading reading;                          // of NVML, where it was opened
  bool silent = false;                      // NVML did not answer in time: nothing else is known of it
  std::vector<std::string> closed_nodes;    // device files that this user may not open for reading and writing
  std::string worker;                       // path of the worker program
  std::optional<std::string> worker_flaw;   // why it cannot be run
};

struct Finding {
  std::string what;
  bool good = false;
  std::string detail;
};

struct Places {
  std::string library = kNvmlLibrary;
  std::string pci = "/sys/bus/pci/devices", nodes = "/dev";
};
/// `worker`: the path of llorch-worker-cuda. NVML has `limit` to answer. Where it is silent, a detached thread still
/// waits for it: such a process should end by std::_Exit, because the library's destructors may wait for that thread.
[[nodiscard]] MachineFacts look(const std::string& worker, const Places& places = {},
                                std::chrono::milliseconds limit = std::chrono::seconds(10));
/// At least one.
[[nodiscard]] std::vector<Finding> diagnose(const MachineFacts& facts);

/// Why llorch-worker-cuda cannot be run from here; nothing where it is an executable file.
[[nodiscard]] std::optional<std::string> flaw_of_worker(const std::string& worker);

}  // namespace llorch::gpu
