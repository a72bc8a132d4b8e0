// Memory that workers may take, of each device: the CPU's, and each GPU's own.
#include <algorithm>
#include <csignal>

#include "base/human.h"
#include "hive/hive.h"
#include "service/log.h"

namespace llorch::hive {

Status Hive::check_device(const std::string& device) const {
  const colony::Device* d = devices_.find(device);
  if (!d) return fail(ErrorCode::kNoWorkersAvailable, "this hive has no device {}", device);
  if (d->problem.empty()) return {};
  return fail(devices_.use_of(device).lost ? ErrorCode::kWorkerUnhealthy : ErrorCode::kNoWorkersAvailable, "{}: {}",
              device, d->problem);
}

std::string Hive::one_device(const std::string& named) const {
  if (named != colony::kAnyGpu) return named;
  const colony::Device* best = nullptr;
  for (const colony::Device& d : devices_.all())
    if (d.type == "gpu" && d.problem.empty() && (!best || d.memory_free > best->memory_free)) best = &d;
  return best ? best->id : "cuda:0";
}

std::int64_t Hive::promised(const std::string& device) const {
  const auto reserved = reserved_->find(device);
  std::int64_t sum = reserved == reserved_->end() ? 0 : reserved->second;
  for (const auto& [id, w] : workers_)
    if (w->facts.device == device && (!w->awake || w->awake_at > devices_.measured_at(device))) sum += w->promised;
  return sum;
}

std::shared_ptr<void> Hive::reserve(const std::string& device, std::int64_t bytes) {
  (*reserved_)[device] += bytes;
  return {nullptr, [all = reserved_, device, bytes](std::nullptr_t) { (*all)[device] -= bytes; }};
}

std::optional<std::int64_t> Hive::room(const std::string& device, bool if_all_stopped) const {
  const colony::Device* d = devices_.find(device);
  if (!d || !d->memory_free) return std::nullopt;  // not to be measured here: the worker itself will say
  const auto reserved = reserved_->find(device);
  std::int64_t taken = reserved == reserved_->end() ? 0 : reserved->second, held = 0;
  for (const auto& [id, w] : workers_) {
    if (w->facts.device != device) continue;
    taken += w->promised;
    held += w->promised / 11 * 10;  // the promise without its margin (Need::total)
  }
  std::int64_t free = *d->memory_free - (options_.headroom_mb << 20) + (if_all_stopped ? held : -promised(device));
  if (options_.memory_limit_mb > 0 && !colony::is_gpu(device))
    free = std::min(free, (options_.memory_limit_mb << 20) - (if_all_stopped ? 0 : taken));
  return std::max<std::int64_t>(0, free);
}

Status Hive::check_room(const std::string& device, std::int64_t bytes) const {
  const auto free = room(device);
  if (!free || bytes <= *free) return {};
  if (colony::is_gpu(device))
    return fail(ErrorCode::kInsufficientVram, "{} are needed, {} are free on {} beside what is promised",
                size_text(static_cast<double>(bytes)), size_text(static_cast<double>(*free)), device);
  return fail(ErrorCode::kInsufficientMemory, "{} are needed, {} are free beside what is promised",
              size_text(static_cast<double>(bytes)), size_text(static_cast<double>(*free)));
}

void Hive::measure_model(const std::string& ref) {
  const auto it = catalog_->models.find(ref);
  if (it == catalog_->models.end() || it->second.model.status != "Available") return;
  const auto need = std::make_shared<Result<Need>>(fail(ErrorCode::kInternal, "it was not measured"));
  const std::string path = it->second.path;
  auto measure = [need, path] { *need = default_need(path); };
  auto keep = [this, ref, need](const Status& done) {
    const auto row = catalog_->models.find(ref);
    if (!done || !*need || row == catalog_->models.end()) return;
    (*need)->tell(row->second.model);
    beat();
  };
  files_.run({std::move(measure), std::move(keep), path, nullptr});
}

Status has_room(const Hive& hive, const Need& need) {
  Status room = hive.check_room(need.device, need.total());
  if (room || !need.context_is_set) return room;
  room.error().message += fmt::format(
      "; {} of it are for a context of {}, which is set: a shorter one needs less (`llorch model set NAME "
      "ctx N`)",
      size_text(static_cast<double>(need.kv)), need.context);
  return room;
}

Hive::GpuShare Hive::gpu_share(const WorkerProcess& w) const {
  GpuShare out;
  const colony::Device* d = colony::is_gpu(w.facts.device) ? devices_.find(w.facts.device) : nullptr;
  if (!d) return out;
  const GpuUse use = devices_.use_of(d->id);
  out.util_pct = use.util_pct, out.total_bytes = d->memory_total;
  const auto pids = w.figures.pids.empty() ? std::vector{w.facts.pid} : w.figures.pids;
  for (const std::int64_t pid : pids)
    if (const auto it = use.process_bytes.find(pid); it != use.process_bytes.end())
      out.worker_bytes = out.worker_bytes.value_or(0) + it->second;
  return out;
}

boost::json::object Hive::node_figures() const {
  const auto mb = [](colony::Bytes v) { return v ? boost::json::value(*v >> 20) : boost::json::value(nullptr); };
  const auto used_mb = [&](const colony::Device& d) {
    return d.memory_total && d.memory_free ? mb(*d.memory_total - *d.memory_free) : boost::json::value(nullptr);
  };
  const auto or_null = [](const auto& v) { return v ? boost::json::value(*v) : boost::json::value(nullptr); };
  boost::json::array gpus;
  for (const colony::Device& d : devices_.all()) {
    if (d.type != "gpu") continue;
    const GpuUse use = devices_.use_of(d.id);
    gpus.push_back({{"id", d.id},
                    {"util_pct", or_null(use.util_pct)},
                    {"vram_total_mb", mb(d.memory_total)},
                    {"vram_used_mb", used_mb(d)},
                    {"temp_c", or_null(use.temp_c)},
                    {colony::kMeasuredAgo, measured_ago(devices_.measured_at(d.id))}});
  }
  const auto memory_at = devices_.measured_at(devices_.cpu().id);
  return {{"cpu_pct", or_null(machine_cpu_pct_)},
          {colony::kMeasuredAgo, measured_ago(std::min(machine_measured_at_.value_or(memory_at), memory_at))},
          {"gpus", std::move(gpus)},
          {"ram_total_mb", mb(devices_.cpu().memory_total)},
          {"ram_used_mb", used_mb(devices_.cpu())}};
}

void Hive::end_workers_of_lost_gpus() {
  for (const auto& [id, w] : workers_) {
    if (!devices_.use_of(w->facts.device).lost || w->exited) continue;
    service::log(service::Level::kError, "worker_unhealthy",
                 fmt::format("{} is lost: {}, which computes there, is ended", w->facts.device, id),
                 {{"worker_id", id}, {"device", w->facts.device}, {"code", name(ErrorCode::kWorkerUnhealthy)}});
    w->end_reason = {ErrorCode::kWorkerUnhealthy,
                     fmt::format("{}, on which {} computed, is lost", w->facts.device, id)};
    w->process->signal(SIGKILL);
  }
}

}  // namespace llorch::hive
