// A hive starts a worker: a port, a command line, a process, its cgroup.
#include <algorithm>
#include <fstream>

#include "base/ids.h"
#include "hive/hive.h"
#include "security/manifest.h"
#include "service/log.h"

namespace llorch::hive {

using service::Level;
using service::log;

constexpr int kWorkerPorts = 399;  // 8601 to 8999, unless told otherwise

Result<int> Hive::free_worker_port() {
  for (int p = options_.first_worker_port; p < std::min(65'536, options_.first_worker_port + kWorkerPorts); ++p) {
    bool ours = false;
    for (const auto& [id, w] : workers_) ours |= w->facts.port == p;
    net::ServerOptions probe;
    probe.address = options_.listen == "localhost" ? "127.0.0.1" : options_.listen,
    probe.port = static_cast<std::uint16_t>(p);
    if (!ours && net::HttpServer::make(loop_, probe, {}, {})) return p;
  }
  return fail(ErrorCode::kIo, "no port for a worker is free");
}

std::string Hive::manifest_to_ask(const colony::ModelRef& ref) const {
  const auto it = catalog_->models.find(ref.text());
  if (it == catalog_->models.end() || it->second.sha256.empty()) return "";
  return security::identity_of(it->second.path) == it->second.identity ? "" : it->second.sha256;
}

service::ProcessOptions Hive::invocation(const WorkerRow& program, const colony::ModelRef& ref,
                                         const std::string& location, const colony::WorkerFacts& facts) const {
  service::ProcessOptions o;
  o.arguments = {program.path,
                 "serve",
                 "-m",
                 location,
                 "--port",
                 std::to_string(facts.port),
                 "--listen",
                 options_.listen,
                 "--worker-id",
                 facts.worker_id,
                 "--model-ref",
                 ref.text(),
                 "--hive-url",
                 service::base_url(options_.listen, front_.port()),
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
  for (const std::string& host : options_.allowed_hosts) o.arguments.insert(o.arguments.end(), {"--allow-host", host});
  if (const std::string manifest = manifest_to_ask(ref); !manifest.empty())
    o.arguments.insert(o.arguments.end(), {"--manifest", manifest});
  return o;
}

Result<WorkerPtr> Hive::launch(const colony::ModelRef& ref, const std::string& location, const std::string& kind,
                               const std::string& device, std::int64_t need) {
  const auto program = catalog_->workers.find(kind);
  if (program == catalog_->workers.end())
    return fail(ErrorCode::kNoWorkersAvailable, "no {} worker is installed on this hive", kind);
  LLORCH_TRY(const int port, free_worker_port());
  auto w = std::make_shared<WorkerProcess>();
  w->facts = {fmt::format("worker-{}-{}", kind, port), "", ref.text(), device, kind, "starting", 0, port};
  w->spawn_token = random_hex(24);
  w->promised = need;
  w->started = w->last_progress = net::Clock::now();
  w->log_file = fmt::format("{}/logs/{}.log", options_.data_dir, w->facts.worker_id);
  service::ProcessOptions o = invocation(program->second, ref, location, w->facts);
  o.environment.emplace_back("LLORCH_SPAWN_TOKEN", w->spawn_token);
  o.log_file = w->log_file;
  const std::weak_ptr<WorkerProcess> weak = w;
  LLORCH_TRY(w->process, service::Process::start(
                             loop_, std::move(o),
                             [this, weak](const std::string&) {
                               if (const auto alive = weak.lock())
                                 alive->last_progress = net::Clock::now(), changed_.notify();
                             },
                             [this, weak](int code) {
                               if (const auto alive = weak.lock()) exited(alive, code);
                             }));
  w->facts.pid = w->process->pid();
  auto group = Cgroup::make(cgroup_mount_, w->facts.worker_id, options_.worker_limits);
  const Status inside = group ? (*group)->add(w->facts.pid) : Status(std::unexpected(group.error()));
  if (inside)
    w->cgroup = *std::move(group);
  else if (!options_.worker_limits.empty())
    return std::unexpected(inside.error());
  else
    log(Level::kDebug, "no_cgroup", inside.error().message, {{"worker_id", w->facts.worker_id}});
  std::ofstream(options_.data_dir + "/workers.pid", std::ios::app)
      << w->facts.pid << ' ' << program->second.path << '\n';
  workers_[w->facts.worker_id] = w;
  log(Level::kInfo, "worker_spawned", fmt::format("{} for {} on port {}", w->facts.worker_id, ref.text(), port),
      {{"worker_id", w->facts.worker_id}, {"pid", w->facts.pid}});
  return w;
}

}  // namespace llorch::hive
