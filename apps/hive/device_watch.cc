#include "hive/device_watch.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <tuple>
#include <utility>

#include "gpu/diagnosis.h"
#include "service/log.h"

namespace llorch::hive {
namespace {

constexpr std::chrono::seconds kKnownWithin{2}, kSeldomInterval{5}, kGpuTime{10};
constexpr int kGpuFailuresMax = 2;  // in a row: those of a moment
constexpr std::size_t kSmiOutputMax = 1u << 20;

}  // namespace

void DeviceWatch::start(std::function<void()> on_known, std::function<void()> on_changed,
                        std::function<void()> on_measured) {
  on_known_ = std::move(on_known), on_changed_ = std::move(on_changed), on_measured_ = std::move(on_measured);
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
  on_known_ = nullptr, on_changed_ = nullptr, on_measured_ = nullptr;
  known_limit_.cancel(), gpu_limit_.cancel();
  smi_.reset();
}

const colony::Device* DeviceWatch::find(std::string_view id) const {
  const auto it = std::ranges::find(devices_, id, &colony::Device::id);
  return it == devices_.end() ? nullptr : &*it;
}

GpuUse DeviceWatch::use_of(const std::string& id) const {
  const auto it = gpu_use_.find(id);
  return it == gpu_use_.end() ? GpuUse() : it->second;
}

void DeviceWatch::measure(Gpus gpus, std::function<void()> then) {
  // Asking for GPUs takes a program or a driver: only where there were some, or where there may be some yet.
  const bool due = (by_nvml_ && gpus == Gpus::kOften) || net::Clock::now() - gpus_asked_at_ > kSeldomInterval ||
                   gpus_asked_at_ < gpus_expired_at_;
  if ((devices_.size() > 1 || again_) && due) ask_gpus();
  if (std::exchange(reading_cpu_, true)) return then();
  const auto cpu = std::make_shared<colony::Device>();
  const auto at = net::Clock::now();
  reader_.run({[cpu] { *cpu = cpu_device(); },
               [this, cpu, at, then = std::move(then)](const Status& done) {
                 reading_cpu_ = false;
                 if (done) devices_.front() = std::move(*cpu), cpu_measured_at_ = at;
                 then();
               },
               "cpu", nullptr});
}

void DeviceWatch::expire_gpus() {
  gpus_expired_at_ = net::Clock::now();
  measure();
}

bool DeviceWatch::expired(std::string_view device) const {
  return colony::is_gpu(device) && find(device) && gpus_measured_at_ < gpus_expired_at_ &&
         net::Clock::now() - gpus_expired_at_ < kGpuTime;
}

namespace {

DeviceReport new_report() {
  DeviceReport report;
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) report.visible = visible;
  return report;
}

/// Null: there is no such program.
std::unique_ptr<service::Process> start_smi() {
  service::ProcessOptions o;
  o.arguments = {service::find_program("nvidia-smi"), std::string("--query-gpu=") + kGpuColumns,
                 "--format=csv,noheader,nounits"};
  o.with_stderr = false;
  if (o.arguments[0].empty()) return nullptr;
  auto started = service::Process::start(std::move(o));
  return started ? *std::move(started) : nullptr;
}

}  // namespace

void DeviceWatch::ask_gpus() {
  if (std::exchange(asking_gpus_, true)) return;
  gpus_asked_at_ = net::Clock::now(), gpus_late_ = false;
  const auto look = std::make_shared<Look>();
  const auto work = [look, source = source_, worker = gpu_worker_] {
    if (!source->nvml) {
      auto opened = gpu::Nvml::open();
      if (opened)
        source->nvml = *std::move(opened);
      else
        look->flaw = opened.error().message;
    }
    if (source->nvml)
      look->reading = source->nvml->read();
    else
      look->smi = start_smi();
    look->worker_flaw = gpu::flaw_of_worker(worker).value_or("");
  };
  reader_.run({work,
               [this, look](const Status&) {
                 if (stopped_) return look->smi.reset();
                 take_look(*look);
               },
               "gpus", nullptr});
  gpu_limit_ = loop_.after(kGpuTime, [this] { gpus_late(); });
}

void DeviceWatch::gpus_late() {
  const std::string why =
      fmt::format("{} has not answered in {} seconds", smi_ ? "nvidia-smi" : "NVML", kGpuTime.count());
  if (!std::exchange(gpus_late_, true))
    service::log(service::Level::kWarn, "gpus_not_measured", why + "; what is known of GPUs may be old");
  if (smi_) smi_->signal(SIGKILL);  // while it does not die, no other one is started
  gpu_limit_ = loop_.after(kGpuTime, [this] { gpus_late(); });
  gpus_failed(why);
}

void DeviceWatch::gpus_failed(const std::string& why) {
  if (++gpu_failures_ <= kGpuFailuresMax) return;
  bool changed = false;
  for (colony::Device& d : devices_) {
    if (!colony::is_gpu(d.id) || !d.problem.empty()) continue;
    d.problem = fmt::format("nothing new is known of it: {} (`llorch doctor` says what to do)", why);
    d.memory_free.reset(), changed = true;
  }
  if (!changed) return;
  service::log(service::Level::kWarn, "gpus_not_used", why);
  if (on_changed_) on_changed_();
}

void DeviceWatch::take_look(Look& look) {
  worker_flaw_ = look.worker_flaw;
  if (look.smi) return listen_to_smi(std::move(look.smi));
  gpu_limit_.cancel(), asking_gpus_ = false;
  by_nvml_ = look.reading && look.reading->status == gpu::NvmlStatus::kSuccess;
  if (!look.reading) {
    again_ = false;
    gpus_failed(fmt::format("NVML is not there ({}), nor is nvidia-smi", look.flaw));
    tell_absent(fmt::format("NVML is not there ({}), nor is nvidia-smi: this machine offers its CPU", look.flaw));
    return known();
  }
  again_ = true;
  if (look.reading->status != gpu::NvmlStatus::kSuccess) {
    gpus_failed("NVML: " + look.reading->why);
    tell_absent(fmt::format("NVML: {}: nothing new is known of GPUs; without them this machine offers its CPU",
                            look.reading->why));
    return known();
  }
  DeviceReport report = new_report();
  add_gpus(*look.reading, report);
  take_report(std::move(report));
}

void DeviceWatch::tell_absent(const std::string& why) {
  if (std::exchange(absent_told_, why) != why) service::log(service::Level::kInfo, "no_gpus", why);
}

void DeviceWatch::listen_to_smi(std::unique_ptr<service::Process> smi) {
  smi_output_.clear();
  smi_ = std::move(smi), again_ = true;
  smi_->listen(
      loop_,
      [this](const std::string& line) {
        if (smi_output_.size() + line.size() < kSmiOutputMax) smi_output_ += line + '\n';
      },
      [this](int code) { take_gpus(code); });
}

void DeviceWatch::take_gpus(int exit_code) {
  gpu_limit_.cancel(), asking_gpus_ = false;
  loop_.post([done = std::shared_ptr<service::Process>(std::move(smi_))] {});  // this is its own callback
  if (exit_code != 0) {
    if (!gpus_late_) gpus_failed(fmt::format("nvidia-smi ended with {}", exit_code));  // else it was killed
    return known();
  }
  again_ = false;
  DeviceReport report = new_report();
  read_gpu_lines(smi_output_, report);
  take_report(std::move(report));
}

/// `report`: of GPUs alone.
void DeviceWatch::take_report(DeviceReport report) {
  std::string unreadable;
  for (const std::string& line : report.unreadable) unreadable += (unreadable.empty() ? "" : "; ") + line;
  if (std::exchange(unreadable_told_, unreadable) != unreadable && !unreadable.empty())
    service::log(service::Level::kWarn, "gpu_unreadable", unreadable);
  if (!worker_flaw_.empty()) add_problem(worker_flaw_, report);
  report.devices.insert(report.devices.begin(), devices_.front());
  gpus_measured_at_ = gpus_asked_at_, gpu_failures_ = 0;
  const auto same = [](const colony::Device& a, const colony::Device& b) {
    return std::tie(a.id, a.name, a.problem) == std::tie(b.id, b.name, b.problem);
  };
  const bool changed = !std::ranges::equal(devices_, report.devices, same);
  devices_ = std::move(report.devices), gpu_use_ = std::move(report.use);
  for (const auto& d : devices_)
    if (d.type == "gpu" && d.memory_total && d.memory_free)
      metrics_.gpu(d.id, static_cast<double>(*d.memory_total), static_cast<double>(*d.memory_total - *d.memory_free));
  metrics_.gpus(static_cast<int>(devices_.size()) - 1);
  if (on_known_)
    known();
  else if (changed && on_changed_)
    on_changed_();
  if (on_measured_) on_measured_();
}

}  // namespace llorch::hive
