#include "hive/device_watch.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "service/log.h"

namespace llorch::hive {
namespace {

constexpr std::chrono::seconds kKnownWithin{2}, kGpuInterval{5}, kSmiTime{10};
constexpr std::size_t kSmiOutputMax = 1u << 20;

}  // namespace

void DeviceWatch::start(std::function<void()> on_known, std::function<void()> on_changed) {
  on_known_ = std::move(on_known), on_changed_ = std::move(on_changed);
  cpu_measured_at_ = net::Clock::now();
  devices_ = {cpu_device()};
  known_limit_ = loop_.after(kKnownWithin, [this] { known(); });
  ask_gpus();
}

void DeviceWatch::known() {
  known_limit_.cancel();
  metrics_.gpus(static_cast<int>(devices_.size()) - 1);
  if (const auto tell = std::exchange(on_known_, nullptr)) tell();
}

void DeviceWatch::stop() {
  stopped_ = true;
  on_known_ = nullptr, on_changed_ = nullptr;
  known_limit_.cancel(), smi_limit_.cancel();
  smi_.reset();
}

GpuUse DeviceWatch::use_of(const std::string& id) const {
  const auto it = gpu_use_.find(id);
  return it == gpu_use_.end() ? GpuUse() : it->second;
}

void DeviceWatch::measure() {
  // Asking for GPUs runs a program: only where there were some, or where it has not answered yet.
  if ((devices_.size() > 1 || smi_unanswered_) && net::Clock::now() - gpus_asked_at_ > kGpuInterval) ask_gpus();
  if (std::exchange(reading_cpu_, true)) return;
  const auto cpu = std::make_shared<colony::Device>();
  const auto at = net::Clock::now();
  reader_.run({[cpu] { *cpu = cpu_device(); },
               [this, cpu, at](const Status& done) {
                 reading_cpu_ = false;
                 if (done) devices_.front() = std::move(*cpu), cpu_measured_at_ = at;
               },
               "cpu", nullptr});
}

void DeviceWatch::ask_gpus() {
  if (smi_ || std::exchange(starting_smi_, true)) return;
  gpus_asked_at_ = net::Clock::now();
  const auto smi = std::make_shared<std::unique_ptr<service::Process>>();
  const auto start = [smi] {
    service::ProcessOptions o;
    o.arguments = {service::find_program("nvidia-smi"), std::string("--query-gpu=") + kGpuColumns,
                   "--format=csv,noheader,nounits"};
    o.with_stderr = false;
    if (o.arguments[0].empty()) return;
    if (auto started = service::Process::start(std::move(o))) *smi = *std::move(started);
  };
  reader_.run({start,
               [this, smi](const Status&) {
                 starting_smi_ = smi_unanswered_ = false;
                 if (stopped_) return smi->reset();
                 *smi ? listen_to_smi(std::move(*smi)) : known();
               },
               "gpus", nullptr});
}

void DeviceWatch::listen_to_smi(std::unique_ptr<service::Process> smi) {
  smi_output_.clear();
  smi_ = std::move(smi), smi_unanswered_ = true;
  smi_->listen(
      loop_,
      [this](const std::string& line) {
        if (smi_output_.size() + line.size() < kSmiOutputMax) smi_output_ += line + '\n';
      },
      [this](int code) { take_gpus(code); });
  smi_limit_ = loop_.after(kSmiTime, [this] {
    service::log(
        service::Level::kWarn, "gpus_not_measured",
        fmt::format("nvidia-smi has not answered in {} seconds; what is known of GPUs may be old", kSmiTime.count()));
    smi_->signal(SIGKILL);  // while it does not die, no other one is started
  });
}

void DeviceWatch::take_gpus(int exit_code) {
  smi_limit_.cancel();
  loop_.post([done = std::shared_ptr<service::Process>(std::move(smi_))] {});  // this is its own callback
  if (exit_code != 0) return known();
  smi_unanswered_ = false;
  DeviceReport report;
  report.devices.push_back(devices_.front());
  read_gpu_lines(smi_output_, report);
  const auto same = [](const colony::Device& a, const colony::Device& b) { return a.id == b.id && a.name == b.name; };
  const bool changed = !std::ranges::equal(devices_, report.devices, same);
  devices_ = std::move(report.devices), gpu_use_ = std::move(report.use);
  for (const auto& d : devices_)
    if (d.type == "gpu" && d.memory_total && d.memory_free)
      metrics_.gpu(d.id, static_cast<double>(*d.memory_total), static_cast<double>(*d.memory_total - *d.memory_free));
  metrics_.gpus(static_cast<int>(devices_.size()) - 1);
  if (on_known_) return known();
  if (changed && on_changed_) on_changed_();
}

}  // namespace llorch::hive
