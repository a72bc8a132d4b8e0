// Looks at this machine's devices while the hive runs: the CPU's memory often, GPUs now and then: through NVML, or,
// where its library is not there, through nvidia-smi.
//
// Both may hang for as long as a driver does: nobody waits for them. What was read last is kept for two failures; after
// the third in a row no GPU can be used, with the reason, until a reading succeeds. NVML is asked on a
// thread of its own; nvidia-smi is a child process with a time limit. The CPU's figures are read, and nvidia-smi is
// started, on a thread each. Threads: the event loop's.
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
  /// `gpu_worker`: the path of the program that computes on GPUs; without it they cannot be used.
  DeviceWatch(net::EventLoop& loop, Metrics& metrics, std::string gpu_worker)
      : loop_(loop),
        metrics_(metrics),
        gpu_worker_(std::move(gpu_worker)),
        reader_(loop, {.threads = 2, .threads_per_owner = 1}) {}
  /// Reads the CPU's figures and asks for GPUs. `on_known` is called once: when they have answered, or have had two
  /// seconds to. `on_changed`: later, when there are other devices than before.
  /// `on_measured`: whenever GPUs have answered.
  void start(std::function<void()> on_known, std::function<void()> on_changed, std::function<void()> on_measured);
  /// How often GPUs are asked: each question keeps one awake that has nothing else to do.
  enum class Gpus { kSeldom, kOften };
  /// Measures again; GPUs at most every five seconds, unless they are asked often and NVML answers: nvidia-smi is a
  /// program of its own. `then` is called when the CPU's figures have been read, or at once where a reading is under
  /// way. It is called on the loop.
  void measure(
      Gpus gpus = Gpus::kSeldom, std::function<void()> then = [] {});
  /// What is known of GPUs is of before: a process that used one has ended. They are asked as soon as can be.
  void expire_gpus();
  /// An expired measurement is not renewed yet. Not for longer than a driver may take to answer.
  [[nodiscard]] bool expired(std::string_view device) const;
  /// Ends a program that still runs.
  void stop();

  /// The CPU first.
  [[nodiscard]] const std::vector<colony::Device>& all() const { return devices_; }
  [[nodiscard]] const colony::Device& cpu() const { return devices_.front(); }
  /// Null: there is no such device.
  [[nodiscard]] const colony::Device* find(std::string_view id) const;
  /// When the free memory of the CPU, or of GPUs, was looked at.
  [[nodiscard]] net::Clock::time_point measured_at(std::string_view device) const {
    return colony::is_gpu(device) ? gpus_measured_at_ : cpu_measured_at_;
  }
  [[nodiscard]] GpuUse use_of(const std::string& id) const;

 private:
  /// NVML, on the thread that reads; it opens the library at its first question.
  struct Source {
    std::unique_ptr<gpu::Nvml> nvml;
    std::string flaw;  // why there is none
  };
  /// One look at GPUs: what NVML said, or nvidia-smi where that must be listened to.
  struct Look {
    std::optional<gpu::Reading> reading;
    std::unique_ptr<service::Process> smi;
    std::string flaw, worker_flaw;
  };
  void ask_gpus();
  void take_look(Look& look);
  void take_report(DeviceReport report);
  void tell_absent(const std::string& why);
  void listen_to_smi(std::unique_ptr<service::Process> smi);
  void take_gpus(int exit_code);
  void gpus_late();
  void gpus_failed(const std::string& why);
  void known();

  net::EventLoop& loop_;
  Metrics& metrics_;
  std::string gpu_worker_, worker_flaw_;
  std::shared_ptr<Source> source_ = std::make_shared<Source>();  // of the thread that asks
  std::vector<colony::Device> devices_;
  std::map<std::string, GpuUse> gpu_use_;
  std::function<void()> on_known_, on_changed_, on_measured_;
  net::Clock::time_point cpu_measured_at_, gpus_asked_at_, gpus_measured_at_, gpus_expired_at_;
  bool by_nvml_ = false;                                                              // it answered the last question
  bool reading_cpu_ = false, asking_gpus_ = false, again_ = false, stopped_ = false;  // again_: GPUs may be there
  bool gpus_late_ = false;  // the question that is under way was not answered in time
  int gpu_failures_ = 0;    // readings in a row that failed, or multiples of the time in which one should answer
  std::string absent_told_, unreadable_told_;
  std::string smi_output_;
  std::unique_ptr<service::Process> smi_;  // while it runs
  net::EventLoop::Timer gpu_limit_, known_limit_;
  service::Background reader_;  // last: its work uses what is above
};

}  // namespace llorch::hive
