// Looks at this machine's devices while the hive runs: the CPU's memory often, GPUs through nvidia-smi now and then.
//
// nvidia-smi may hang for as long as a driver does: it is a child process with a time limit, nobody waits for it, and
// what it said last is kept. The CPU's figures are read, and nvidia-smi is started, on a thread each. Threads: the
// event loop's.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "hive/devices.h"
#include "hive/metrics.h"
#include "service/background.h"
#include "service/process.h"

namespace llorch::hive {

class DeviceWatch {
 public:
  DeviceWatch(net::EventLoop& loop, Metrics& metrics)
      : loop_(loop), metrics_(metrics), reader_(loop, {.threads = 2, .threads_per_owner = 1}) {}
  /// Reads the CPU's figures and asks for GPUs. `on_known` is called once: when they have answered, or have had two
  /// seconds to. `on_changed`: later, when there are other devices than before.
  void start(std::function<void()> on_known, std::function<void()> on_changed);
  /// Measures again; GPUs at most every five seconds. At once when a measurement is under way.
  void measure();
  /// Ends a program that still runs.
  void stop();

  /// The CPU first.
  [[nodiscard]] const std::vector<colony::Device>& all() const { return devices_; }
  [[nodiscard]] const colony::Device& cpu() const { return devices_.front(); }
  /// When the CPU's free memory was looked at.
  [[nodiscard]] net::Clock::time_point cpu_measured_at() const { return cpu_measured_at_; }
  [[nodiscard]] GpuUse use_of(const std::string& id) const;

 private:
  void ask_gpus();
  void listen_to_smi(std::unique_ptr<service::Process> smi);
  void take_gpus(int exit_code);
  void known();

  net::EventLoop& loop_;
  Metrics& metrics_;
  std::vector<colony::Device> devices_;
  std::map<std::string, GpuUse> gpu_use_;
  std::function<void()> on_known_, on_changed_;
  net::Clock::time_point cpu_measured_at_, gpus_asked_at_;
  bool reading_cpu_ = false, starting_smi_ = false, smi_unanswered_ = false, stopped_ = false;
  std::string smi_output_;
  std::unique_ptr<service::Process> smi_;  // while it runs
  net::EventLoop::Timer smi_limit_, known_limit_;
  service::Background reader_;  // last: its work uses what is above
};

}  // namespace llorch::hive
