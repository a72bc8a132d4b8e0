// One machine's hive: knows its devices, models and workers, and obeys (H-01 to H-36).
//
// Owns the event loop's side of everything. Blocking work runs elsewhere, and what hangs holds up its like alone: the
// state folder (SQLite), the kernel's files and ports on a thread each; a model's file, a worker's log and a kind of
// worker program on one at a time of several; each download on one of its own. Threads: the event loop's.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "address_file.h"
#include "base/limits.h"
#include "base/state_lock.h"
#include "colony/model_settings.h"
#include "hive/catalog.h"
#include "hive/cgroup.h"
#include "hive/device_watch.h"
#include "hive/memory_fit.h"
#include "hive/metrics.h"
#include "hive/process_stats.h"
#include "hive/queens.h"
#include "hive/renewal.h"
#include "hive/standing.h"
#include "hive/transfers.h"
#include "hive/worker_records.h"
#include "service/background.h"
#include "service/broadcast.h"
#include "service/exit_deadline.h"
#include "service/front.h"
#include "service/job_desk.h"
#include "service/process.h"
#include "service/remote.h"

namespace llorch::hive {

struct HiveOptions : service::FrontOptions {
  HiveOptions() { first_port = last_port = 8600, body_bytes_max = limits::kSmallBodyBytesMax; }
  std::string queen_url;  // where it joins: the first of `queens`
  std::string queens;     // URLs with commas between them; empty: it is alone
  std::string queen_ca, hive_id, data_dir, worker_dir;
  HubOptions hub;
  int heartbeat_interval_s = 30, worker_heartbeat_interval_s = 1, idle_stop_s = 300, first_worker_port = 8601,
      loading_timeout_s = 60, probe_interval_s = 30;
  std::int64_t headroom_mb = 256, memory_limit_mb = 0;  // limit: of all workers together; 0: none
  CgroupLimits worker_limits;
  std::string join_token_file;      // a one-time token, taken away once it is used
  bool queen_started = false;       // ends with its queen
  std::string node_token;           // what the queen is shown; empty: the file that joining left, else our own token
  std::shared_ptr<StateLock> lock;  // of data_dir
};

/// A worker process, from the command to spawn it until it is reaped.
struct WorkerProcess {
  colony::WorkerFacts facts;
  std::string spawn_token, log_file;
  std::int64_t promised = 0;  // bytes that its model will take
  std::unique_ptr<service::Process> process;
  std::string cgroup;         // its control group's name; empty: none
  boost::json::object about;  // what it says of itself: protocol, memory_architecture, capabilities
  std::shared_ptr<MeasuredProcess> measured = std::make_shared<MeasuredProcess>();  // of the thread of Hive::kernel()
  ProcessFigures figures;
  net::Clock::time_point started, last_progress, awake_at, idle_since;
  std::optional<std::int64_t> keep_alive;  // seconds, of its model's settings; nothing: as the hive has it
  bool awake = false, exited = false, pinned = false;
  int exit_code = 0, missed_probes = 0, loaded_percent = 0;  // loaded_percent: of its model, as its log tells
  std::optional<Error> end_reason;                           // why its hive has ended it
  Error last_error{ErrorCode::kWorkerCrashed, ""};           // that its log tells; no message: none
};
using WorkerPtr = std::shared_ptr<WorkerProcess>;

/// What a worker is started with.
struct LaunchPlan {
  colony::ModelRef ref;
  std::string location, manifest;  // manifest: the hash that the file must have; empty: it is trusted
  std::string kind, device;
  std::int64_t need = 0;  // bytes
  int port = 0;
  colony::ModelSettings settings;
};
/// What a plan comes to.
struct Launch {
  WorkerPtr worker;
  service::ProcessOptions options;
};
/// The first of the ports that can be listened on. Not on the event loop. Errors: kIo.
[[nodiscard]] Result<int> first_bindable(const std::string& address, const std::vector<int>& ports);
/// What a worker must find in the model's place: the hash that its download had; empty when the file is untouched
/// since. Looks at the file: not on the event loop.
[[nodiscard]] std::string manifest_to_ask(const ModelRow& row);

class Hive {
 public:
  Hive(net::EventLoop& loop, HiveOptions options);
  ~Hive();
  [[nodiscard]] Status start();
  /// Stops all workers, then the loop (H-32).
  void shutdown(std::string_view why);
  [[nodiscard]] int exit_code() const { return 0; }

  // What routes and procedures use.
  [[nodiscard]] const HiveOptions& options() const { return options_; }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  /// Under it lives every procedure of the hive.
  [[nodiscard]] service::Gate& gate() { return gate_; }
  [[nodiscard]] service::Front& front() { return front_; }
  [[nodiscard]] service::JobDesk& desk() { return desk_; }
  /// Of the state folder: the catalog, the list of worker processes, keys.
  [[nodiscard]] service::Background& database() { return database_; }
  /// Files of the kernel, and ports.
  [[nodiscard]] service::Background& kernel() { return kernel_; }
  /// Models and logs of workers. Each task's owner is its path: a disk or a file that hangs holds up itself alone.
  [[nodiscard]] service::Background& files() { return files_; }
  /// Worker programs that are asked what they are, or started; each task's owner is the kind.
  [[nodiscard]] service::Background& programs() { return programs_; }
  [[nodiscard]] Catalog& catalog() { return *catalog_; }
  /// Of one that has ended: as its hive or itself tells. `when`: "while it was starting", or empty.
  [[nodiscard]] static Error why_ended(const WorkerProcess& w, std::string_view when);
  /// What is counted, with the states of now.
  [[nodiscard]] std::string metrics_text();
  /// Seconds until a worker that stays idle is stopped; nothing where it works, or none is.
  [[nodiscard]] std::optional<double> sleeps_in(const WorkerProcess& w) const;
  /// Seconds for which it stays when it is idle; nothing: for ever.
  [[nodiscard]] std::optional<std::int64_t> stays_idle(const WorkerProcess& w) const;
  [[nodiscard]] service::Signal& changed() { return changed_; }
  [[nodiscard]] service::Broadcast& telemetry() { return telemetry_; }
  [[nodiscard]] bool stopping() const { return stopping_; }
  [[nodiscard]] colony::Capabilities capabilities() const;
  [[nodiscard]] std::map<std::string, WorkerPtr>& workers() { return workers_; }
  [[nodiscard]] WorkerPtr worker_with_pid(std::int64_t pid) const;
  /// Whether a worker can run there. Errors: kNoWorkersAvailable: there is no such device, or why not;
  /// kWorkerUnhealthy: the GPU is lost.
  [[nodiscard]] Status check_device(const std::string& device) const;
  /// The device that is meant where any GPU is (colony::kAnyGpu): one that can be used, the most of its memory free.
  [[nodiscard]] std::string one_device(const std::string& named) const;
  /// Memory of a device promised to workers that have not taken it yet.
  [[nodiscard]] std::int64_t promised(const std::string& device) const;
  /// Bytes of a device that another worker may take now, or if all had stopped; nothing where memory cannot be
  /// measured.
  [[nodiscard]] std::optional<std::int64_t> room(const std::string& device, bool if_all_stopped = false) const;
  /// The device's memory is being measured again, for a worker there has ended: changed() tells of it.
  [[nodiscard]] bool room_is_old(const std::string& device) const { return devices_.expired(device); }
  /// Errors: kInsufficientMemory, of a GPU kInsufficientVram, with both numbers.
  [[nodiscard]] Status check_room(const std::string& device, std::int64_t bytes) const;
  /// What the GPU of a worker does, and how much of its memory the worker has; absent: not known, or it has none.
  struct GpuShare {
    std::optional<std::int64_t> util_pct, worker_bytes, total_bytes;
  };
  [[nodiscard]] GpuShare gpu_share(const WorkerProcess& w) const;
  /// Learns from a model's file what a worker would need, and tells the queen.
  void measure_model(const std::string& ref);
  /// Whether it was provisioned before: fetched, or held by a worker.
  [[nodiscard]] bool knows(const colony::ModelRef& ref) const;
  /// A path or "builtin:name" for a known model, or the path of a file that may be there. Errors: kModelNotFound.
  [[nodiscard]] Result<std::string> location_of(const colony::ModelRef& ref) const;

  /// Ports for workers that none of ours has.
  [[nodiscard]] std::vector<int> free_worker_ports() const;
  /// Counts `bytes` of a device as promised as long as the returned object lives: from the check for room to the
  /// launch.
  [[nodiscard]] std::shared_ptr<void> reserve(const std::string& device, std::int64_t bytes);
  /// As long as the returned object lives the port is not free: until it is a worker's.
  [[nodiscard]] std::shared_ptr<void> reserve_port(int port);
  /// A worker that has no process yet, and how that is started, for a thread of programs(). Errors:
  /// kNoWorkersAvailable.
  [[nodiscard]] Result<Launch> prepare(const LaunchPlan& plan) const;
  /// It is a worker of this hive from now on.
  void launched(const WorkerPtr& worker, const std::string& program, std::unique_ptr<service::Process> process);
  /// Makes a control group with the worker in it and returns its name. For the thread of kernel(): it takes tens of
  /// milliseconds, and the group belongs to it.
  [[nodiscard]] std::function<Result<std::string>()> confinement(const WorkerProcess& w) const;
  /// Takes what that made. Errors: those of it where workers have limits; the worker is killed then.
  [[nodiscard]] Status confine(WorkerProcess& w, Result<std::string> group) const;
  /// From workers (W-31, S-06): errors when it was not expected or shows another token.
  [[nodiscard]] Status worker_beat(const boost::json::object& body);
  [[nodiscard]] Transfers& transfers() { return transfers_; }
  /// Tells the queen at once, what the hive is able to do included.
  void beat();
  /// What this hive, and its workers, are called in TLS.
  [[nodiscard]] std::string tls_name() const;

 private:
  friend service::Procedure stop_all(service::FlowPtr flow, Hive& hive);
  /// Of a worker on the CPU: its share of the cores, beside those that run already.
  [[nodiscard]] int threads_of_next() const;
  [[nodiscard]] service::ProcessOptions invocation(const WorkerRow& program, const LaunchPlan& plan,
                                                   const colony::WorkerFacts& facts) const;
  /// A line of a worker's log.
  void heard(WorkerProcess& w, const std::string& line);
  void exited(const WorkerPtr& w, int code);
  void sweep();
  /// What workers and the machine's processor take, each second; a heartbeat tells the queen.
  void measure_workers();
  /// Workers whose GPU is lost are ended: what they compute is nothing any more.
  void end_workers_of_lost_gpus();
  [[nodiscard]] boost::json::object node_figures() const;
  void probe();
  /// Tells the queen of a worker that ended on its own (H-33).
  void tell_failed(const WorkerProcess& w);
  void end_orphans();
  /// Shows the one-time token to the queen and keeps the key that she gives for it (S-07).
  void join();
  [[nodiscard]] Result<service::Peer> queen_peer() const;
  /// What her answer says: whether somebody looks at figures, and which others share a store with her. Those are kept
  /// for the time when she does not answer, also over a restart.
  void learn(const std::string& answer);
  void remember_queens();
  [[nodiscard]] net::ClientRequest to_queen(std::string_view path, std::string body) const;
  /// Where the queen is known to listen: what has changed since a second ago.
  void tell_figures();
  void send_beat();
  /// Of what the hive is able to do: a catalog may be long, so that it is hashed when something has changed, and once
  /// in each of a heartbeat's intervals.
  [[nodiscard]] std::string revision();
  /// A heartbeat was answered, or not (status 0).
  void beaten(int status, const std::string& answer, Status outcome);

  service::ExitDeadline deadline_;  // first: a file that hangs holds up the end of its thread
  net::EventLoop& loop_;
  HiveOptions options_;
  service::Gate gate_{loop_}, ending_{loop_};  // ending_: of what shuts it down, when gate_ is closed
  service::Front front_;
  Metrics metrics_;  // before the desk, which counts to the end
  service::JobDesk desk_;
  std::unique_ptr<Catalog> catalog_;
  WorkerRecords records_;
  DeviceWatch devices_;
  std::map<std::string, WorkerPtr> workers_;
  using ByDevice = std::map<std::string, std::int64_t>;
  std::shared_ptr<ByDevice> reserved_ = std::make_shared<ByDevice>();  // see reserve()
  std::shared_ptr<std::multiset<int>> reserved_ports_ = std::make_shared<std::multiset<int>>();
  service::Signal changed_;
  service::Broadcast telemetry_;
  Transfers transfers_;
  net::EventLoop::Timer sweep_timer_, beat_timer_, probe_timer_;
  std::shared_ptr<MachineMeter> machine_ = std::make_shared<MachineMeter>();  // of the thread of kernel()
  std::optional<double> machine_cpu_pct_;
  std::optional<net::Clock::time_point> machine_measured_at_;
  std::string cgroup_mount_;
  net::Call beat_call_;
  net::Clock::time_point queen_seen_;
  Queens queens_{options_.queens};
  std::string node_token_;   // what the queen is shown; empty: our own token
  bool queen_only_ = false;  // from other machines: it has joined, and so do its workers (colony/caller.h)
  bool stopping_ = false, beat_again_ = false, beating_ = false, measuring_ = false,
       reported_ = false,  // the queen has taken a heartbeat
      watched_ = false;    // somebody looks at figures, says she
  int beat_failures_ = 0;
  std::string revision_;  // empty: to be hashed anew
  net::Clock::time_point revision_at_;
  service::Background database_, kernel_, files_, programs_;  // after what their work uses
  Standing standing_;
  std::optional<AddressFile> address_;
  Renewal renewal_;
};

/// Whether a worker that needs so much has room there. Errors: those of Hive::check_room(), which say where a context
/// that a person has set is what needs it.
[[nodiscard]] Status has_room(const Hive& hive, const Need& need);
/// What a worker process takes, for heartbeats (H-02) and for telemetry (H-36).
[[nodiscard]] boost::json::object figures_of(const Hive& hive, const WorkerProcess& w);
[[nodiscard]] boost::json::object process_stats(const Hive& hive, const WorkerProcess& w);
/// The whole ladder: asked, told, killed (H-32). `done` when it is gone.
service::Procedure stop_worker(service::FlowPtr flow, Hive& hive, WorkerPtr worker, std::function<void()> done);

#define LLORCH_ROUTE(name) void add_route_##name(Hive& hive);
#include "hive_routes.inc"
#undef LLORCH_ROUTE

}  // namespace llorch::hive
