// A hive starts a worker: a port, a command line, a process, its control group.
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <csignal>

#include "base/descriptor.h"
#include "base/ids.h"
#include "base/thread_pool.h"
#include "base/thread_role.h"
#include "hive/hive.h"
#include "security/manifest.h"
#include "service/log.h"

namespace llorch::hive {

using service::Level;
using service::log;

constexpr int kWorkerPorts = 399;  // 8601 to 8999, unless told otherwise

std::vector<int> Hive::free_worker_ports() const {
  std::vector<int> ports;
  for (int p = options_.first_worker_port; p < std::min(65'536, options_.first_worker_port + kWorkerPorts); ++p)
    if (!reserved_ports_->contains(p) &&
        std::ranges::none_of(workers_, [p](const auto& w) { return w.second->facts.port == p; }))
      ports.push_back(p);
  return ports;
}

Result<int> first_bindable(const std::string& address, const std::vector<int>& ports) {
  assert_may_block();
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE, hints.ai_socktype = SOCK_STREAM;
  for (const int port : ports) {
    addrinfo* found = nullptr;
    const std::string host = address == "localhost" ? "127.0.0.1" : address, service = std::to_string(port);
    if (getaddrinfo(host.c_str(), service.c_str(), &hints, &found) != 0) break;
    const Descriptor s(socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol));
    const int yes = 1;
    setsockopt(s.number(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    const bool free = bind(s.number(), found->ai_addr, found->ai_addrlen) == 0 && listen(s.number(), 1) == 0;
    freeaddrinfo(found);
    if (free) return port;
  }
  return fail(ErrorCode::kIo, "no port for a worker is free");
}

std::string manifest_to_ask(const ModelRow& row) {
  if (row.sha256.empty()) return "";
  return security::identity_of(row.path) == row.identity ? "" : row.sha256;
}

int Hive::threads_of_next() const {
  const auto others =
      std::ranges::count_if(workers_, [](const auto& w) { return !colony::is_gpu(w.second->facts.device); });
  return std::max(1, ThreadPool::default_threads() / (1 + static_cast<int>(others)));
}

service::ProcessOptions Hive::invocation(const WorkerRow& program, const LaunchPlan& plan,
                                         const colony::WorkerFacts& facts) const {
  service::ProcessOptions o;
  o.arguments = {program.path,
                 "serve",
                 "-m",
                 plan.location,
                 "--port",
                 std::to_string(facts.port),
                 "--listen",
                 options_.listen,
                 "--worker-id",
                 facts.worker_id,
                 "--model-ref",
                 facts.model_ref,
                 "--strict-model",
                 "--hive-url",
                 front_.url(),
                 "--log-format",
                 "json",
                 "--log-level",
                 options_.log_level,
                 "--heartbeat-interval-sec",
                 std::to_string(options_.worker_heartbeat_interval_s)};
  o.environment = {{"LLORCH_CONFIG", ""}};
  if (front_.has_token())
    o.environment.emplace_back("LLORCH_API_TOKEN", front_.token());
  else
    o.arguments.emplace_back("--local-mode");
  if (front_.secure())
    o.arguments.insert(o.arguments.end(), {"--colony-folder", options_.colony_folder, "--hive-tls-name", tls_name()});
  if (queen_only_) o.arguments.emplace_back("--queen-only");
  if (options_.tls) o.arguments.emplace_back("--tls");
  if (options_.insecure_http) o.arguments.emplace_back("--insecure-http");
  for (const std::string& host : options_.allowed_hosts) o.arguments.insert(o.arguments.end(), {"--allow-host", host});
  if (!plan.manifest.empty()) o.arguments.insert(o.arguments.end(), {"--manifest", plan.manifest});
  const std::vector<std::string> set = plan.settings.arguments();
  o.arguments.insert(o.arguments.end(), set.begin(), set.end());
  if (!colony::is_gpu(plan.device))  // settings come before it: the model's above, and the worker's own file
    o.arguments.insert(o.arguments.end(), {"--threads-share", std::to_string(threads_of_next())});
  if (colony::is_gpu(plan.device)) {
    o.arguments.insert(o.arguments.end(), {"--device", std::string(colony::gpu_number(plan.device))});
    // NVML's numbers; which of them may be used, the hive has looked at.
    o.environment.emplace_back("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
    o.environment.emplace_back("CUDA_VISIBLE_DEVICES", "");
  }
  return o;
}

Result<Launch> Hive::prepare(const LaunchPlan& plan) const {
  const auto& [ref, location, manifest, kind, device, need, port, settings] = plan;
  const auto program = catalog_->workers.find(kind);
  if (program == catalog_->workers.end())
    return fail(ErrorCode::kNoWorkersAvailable, "no {} worker is installed on this hive", kind);
  auto w = std::make_shared<WorkerProcess>();
  w->facts = {fmt::format("worker-{}-{}", kind, port), "", ref.text(), device, kind, "starting", 0, port};
  w->spawn_token = random_hex(24);
  w->promised = need, w->facts.memory_bytes = need;
  w->keep_alive = settings.keep_alive();
  w->log_file = fmt::format("{}/logs/{}.log", options_.data_dir, w->facts.worker_id);
  service::ProcessOptions o = invocation(program->second, plan, w->facts);
  o.environment.emplace_back("LLORCH_SPAWN_TOKEN", w->spawn_token);
  o.log_file = w->log_file;
  return Launch{std::move(w), std::move(o)};
}

void Hive::launched(const WorkerPtr& w, const std::string& program, std::unique_ptr<service::Process> process) {
  w->started = w->last_progress = net::Clock::now();
  w->process = std::move(process);
  w->facts.pid = w->measured->pid = w->process->pid();
  const std::weak_ptr<WorkerProcess> weak = w;
  w->process->listen(
      loop_,
      [this, weak](const std::string& line) {
        if (const auto alive = weak.lock()) heard(*alive, line);
      },
      [this, weak](int code) {
        if (const auto alive = weak.lock()) exited(alive, code);
      });
  database_.run([records = records_, pid = w->process->pid(), program] {
    if (const Status kept = records.add(pid, program); !kept) log(Level::kWarn, "not_recorded", kept.error().message);
  });
  workers_[w->facts.worker_id] = w;
  log(Level::kInfo, "worker_spawned",
      fmt::format("{} for {} on port {}", w->facts.worker_id, w->facts.model_ref, w->facts.port),
      {{"worker_id", w->facts.worker_id}, {"pid", w->facts.pid}});
}

std::function<Result<std::string>()> Hive::confinement(const WorkerProcess& w) const {
  return [mount = cgroup_mount_, limits = options_.worker_limits, id = w.facts.worker_id,
          measured = w.measured]() -> Result<std::string> {
    LLORCH_TRY(auto group, Cgroup::make(mount, id, limits));
    LLORCH_OK(group->add(measured->pid));
    measured->cgroup = std::move(group);
    return measured->cgroup->name();
  };
}

Status Hive::confine(WorkerProcess& w, Result<std::string> group) const {
  if (group) {
    w.cgroup = *std::move(group);
  } else if (!options_.worker_limits.empty()) {
    w.process->signal(SIGKILL);
    return std::unexpected(std::move(group).error());
  } else {
    log(Level::kDebug, "no_cgroup", group.error().message, {{"worker_id", w.facts.worker_id}});
  }
  return {};
}

}  // namespace llorch::hive
