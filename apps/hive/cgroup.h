// A control group (cgroup v2) of its own for each worker, where the machine lets us make one (H-35).
//
// <mount>/llorch.slice/llm/<worker id>; the kernel counts there what the worker takes and holds it to its limits.
// Nothing of it is for the event loop: the kernel moves a process only after a grace period, tens of milliseconds, and
// makes, removes and reads files for the rest.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace llorch::hive {

struct CgroupLimits {
  std::string cpu, memory;  // "200%" of a core, "4G" (K, M, G, T; powers of 1024); empty: none
  [[nodiscard]] bool empty() const { return cpu.empty() && memory.empty(); }
};

/// What cpu.max takes: "200%" is "200000 100000". Errors: kInvalidRequest.
[[nodiscard]] Result<std::string> cpu_max_of(const std::string& percent);
/// Bytes of "4G". Errors: kInvalidRequest.
[[nodiscard]] Result<std::int64_t> bytes_of(const std::string& size);
/// Where cgroup v2 is mounted, as `mountinfo` (the text of /proc/self/mountinfo) says; empty: nowhere.
[[nodiscard]] std::string cgroup_mount(const std::string& mountinfo);

class Cgroup {
 public:
  /// Errors: kIo when the machine does not permit it, or not these limits.
  [[nodiscard]] static Result<std::unique_ptr<Cgroup>> make(const std::string& mount, const std::string& instance,
                                                            const CgroupLimits& limits);
  /// The group goes; its processes must have gone.
  ~Cgroup();
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;

  /// Errors: kIo.
  [[nodiscard]] Status add(std::int64_t pid) const;
  /// "/llorch.slice/llm/<instance>", below the mount.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::vector<std::int64_t> pids() const;
  /// Microseconds of processor time.
  [[nodiscard]] std::optional<std::int64_t> cpu_us() const;
  [[nodiscard]] std::optional<std::int64_t> memory_bytes() const;
  /// Bytes read and written on devices.
  [[nodiscard]] std::optional<std::pair<std::int64_t, std::int64_t>> io_bytes() const;
  /// Groups that a killed hive has left behind.
  static void sweep(const std::string& mount);

 private:
  Cgroup(std::string mount, std::string name) : mount_(std::move(mount)), name_(std::move(name)) {}
  [[nodiscard]] std::string file(const char* what) const { return mount_ + name_ + "/" + what; }
  std::string mount_, name_;
};

}  // namespace llorch::hive
