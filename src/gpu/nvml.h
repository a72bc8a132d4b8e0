// NVIDIA GPUs of this machine, as NVML tells of them: the library that comes with the driver, opened at run time.
//
// Nothing initialises CUDA or takes device memory. A call may take as long as the driver does: not on an event loop.
// What NVML says is checked before it is believed: texts, sizes, percentages (H-11). Source of names, numbers and
// layouts: NVML's reference manual. Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace llorch::gpu {

inline constexpr const char* kNvmlLibrary = "libnvidia-ml.so.1";
inline constexpr unsigned kGpusMax = 64;
inline constexpr std::int64_t kMemoryMiBMax = 1'000'000;  // of one GPU

/// What our kernels are built for, and the driver that runs such programs.
inline constexpr int kCudaVersionMin = 13000, kCapabilityMin = 80;  // 13.0, 8.0
inline constexpr const char* kDriverMin = "580";

/// Numbers that NVML's functions return.
enum class NvmlStatus : int {
  kSuccess = 0,
  kUninitialized = 1,
  kNotSupported = 3,
  kNoPermission = 4,
  kInsufficientSize = 7,
  kDriverNotLoaded = 9,
  kGpuIsLost = 15,
  kResetRequired = 16,
  kVersionMismatch = 18,  // the library's driver is another than the kernel's
};

/// One GPU. What cannot be measured is absent.
struct Gpu {
  int index = 0;  // NVML's: by PCI bus id
  std::string name, uuid, pci_bus_id;
  std::optional<int> capability;                          // 89: compute capability 8.9
  std::optional<std::int64_t> memory_total, memory_free;  // bytes
  std::optional<std::int64_t> util_pct, temp_c;
  std::map<std::int64_t, std::int64_t> process_bytes;  // device memory of compute processes, by pid
  bool lost = false;                                   // it fell off the bus, or must be reset: nothing runs there
};

struct Reading {
  NvmlStatus status = NvmlStatus::kSuccess;  // of NVML as a whole; else there are no GPUs, and `why` says why
  std::string why;
  std::string driver;    // "580.65.06"; may be empty
  int cuda_version = 0;  // the newest that the driver runs: 13000 for 13.0; 0: unknown
  std::vector<Gpu> gpus;
  std::vector<std::string> unreadable;  // what was said and cannot be, for people
};

class Nvml {
 public:
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  /// Errors: kDeviceNotFound: there is no such library, or it lacks a function.
  [[nodiscard]] static Result<std::unique_ptr<Nvml>> open(const std::string& library = kNvmlLibrary);
  /// What GPUs do now. A GPU that is lost stays in the list, with what was known of it.
  [[nodiscard]] Reading read();

 private:
  struct Calls;
  explicit Nvml(std::unique_ptr<Calls> calls);
  [[nodiscard]] NvmlStatus prepare(Reading& reading);
  void read_gpu(unsigned index, Reading& reading);
  [[nodiscard]] std::string words(int code) const;

  std::unique_ptr<Calls> calls_;
  bool initialized_ = false;
  std::map<unsigned, Gpu> known_;
};

/// "8.9" of 89, and "13.0" of 13000.
[[nodiscard]] std::string capability_text(int capability);
[[nodiscard]] std::string cuda_text(int version);
/// Why our worker cannot run on it, and what to do; empty: nothing is known against it. `cuda_version` 0: unknown.
[[nodiscard]] std::string problem_of(const Gpu& gpu, const std::string& driver, int cuda_version);

}  // namespace llorch::gpu
