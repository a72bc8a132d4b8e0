// POST /v1/jobs: what a hive can be told to do. Each operation is a procedure.
#include <algorithm>

#include "base/human.h"
#include "colony/facts.h"
#include "colony/model_access.h"
#include "colony/operations.h"
#include "config_file.h"
#include "format/json.h"
#include "hive/hive.h"
#include "hive/log_reader.h"
#include "hive/memory_fit.h"
#include "hive/model_cache.h"
#include "security/validate.h"
#include "service/job_routes.h"
#include "wire/fields.h"

namespace llorch::hive {
namespace {

using colony::ModelRef;
using service::ContextPtr;
using service::FlowPtr;
using service::Procedure;
using service::Step;
using service::TaskPtr;

constexpr const char* kPrefix = "/v1/jobs";
constexpr std::chrono::seconds kProgramTime{20};  // for a worker program to say what it is

/// What an operation may say.
struct Order {
  std::string operation, model, kind, device = "cpu";
  std::int64_t pid = 0, lines = 0;
  bool pinned = false, follow = false;
  std::string worker_id;
  colony::ModelAccess access = colony::ModelAccess::all();
  colony::ModelSettings settings;
};

boost::json::object process_info(const WorkerProcess& w) {
  return {{"pid", w.facts.pid},
          {"worker_id", w.facts.worker_id},
          {"model", w.facts.model_ref},
          {"port", w.facts.port},
          {"status", w.facts.state}};
}

/// What an order names, when it may be had for whoever gave it. Errors: kModelNotFound.
Result<ModelRef> usable_model(const Hive& h, const Order& o) {
  LLORCH_TRY(ModelRef ref, colony::parse_model_ref(o.model));
  if (!o.access.allows(ref, h.knows(ref))) return std::unexpected(colony::no_such_model());
  return ref;
}

ModelRow fetched_row(const ModelRef& ref, const Fetched& got) {
  const std::string id = ref.short_name() + "-" + std::to_string(std::hash<std::string>{}(ref.text()) % 100'000);
  return {{id, ref.text(), got.file, colony::quant_in_name(got.file), "Available", "", got.size},
          got.path,
          got.sha256,
          got.identity};
}

/// Of a file that is named by its path, which nothing fetches.
boost::json::object row_of_file(const ModelRef& ref, const Need& need) {
  colony::Model model{ref.short_name(), ref.text(), ref.short_name(), need.quant, "Available", "", 0};
  need.tell(model);
  boost::json::object row = colony::to_json(model);
  row["local_path"] = ref.path;
  return row;
}

Procedure model_download(TaskPtr t, Hive& h, Order o) {
  t->start({{"model", o.model}});
  const auto ref = usable_model(h, o);
  if (!ref) co_return t->fail(ref.error());
  // A file that is not untouched since is looked at again, and fetched anew where it has changed.
  if (const auto known = h.catalog().models.find(ref->text());
      known != h.catalog().models.end() && known->second.model.status == "Available") {
    auto untouched_work = [row = known->second] { return manifest_to_ask(row).empty(); };
    boost::json::object row = colony::to_json(known->second.model);
    row["local_path"] = known->second.path;
    const auto untouched = co_await service::in_background(t->flow, h.files(), untouched_work, known->second.path);
    if (!untouched) co_return t->fail(untouched.error());
    if (*untouched) {
      t->narrate("model_cached", fmt::format("{} is here already", ref->text()));
      co_return t->succeed(boost::json::value(std::move(row)));
    }
  }
  if (ref->kind == ModelRef::Kind::kFile) {
    auto need_work = [path = ref->path] { return default_need(path); };
    const auto need = co_await service::in_background(t->flow, h.files(), need_work, ref->path);
    if (!need || !*need) co_return t->fail(need ? need->error() : need.error());
    co_return t->succeed(boost::json::value(row_of_file(*ref, **need)));
  }
  if (ref->kind != ModelRef::Kind::kHub)
    co_return t->fail({ErrorCode::kModelNotFound, "there is no such model, and nowhere to fetch it from"});
  t->narrate("model_download", fmt::format("fetching {}", ref->text()));
  const auto transfer = h.transfers().join(*ref);
  t->on_cancel = [&h, transfer] { h.transfers().leave(transfer); };
  const auto start = net::Clock::now();
  auto told = start - std::chrono::seconds(2);
  while (!transfer->outcome) {
    const auto changed = co_await h.changed().wait(t->flow, std::chrono::seconds(1));
    if (!changed) co_return t->fail(changed.error());
    if (transfer->total <= 0 || net::Clock::now() - told < std::chrono::milliseconds(900)) continue;
    told = net::Clock::now();
    const double seconds = std::chrono::duration<double>(told - start).count(),
                 percent = 100.0 * static_cast<double>(transfer->done) / static_cast<double>(transfer->total);
    t->event("progress", progress_of(*transfer));
    t->narrate("model_download_progress",
               fmt::format("{} of {}, {:.0f} %, {}/s, {:.0f} s", size_text(static_cast<double>(transfer->done)),
                           size_text(static_cast<double>(transfer->total)), percent,
                           size_text(transfer->mb_per_s * 1e6), seconds));
  }
  t->on_cancel = nullptr;
  h.transfers().leave(transfer);
  if (!*transfer->outcome) co_return t->fail(transfer->outcome->error());
  const Fetched got = **transfer->outcome;
  const double seconds = std::chrono::duration<double>(net::Clock::now() - start).count();
  ModelRow row = fetched_row(*ref, got);
  auto need_work = [path = got.path] { return default_need(path); };
  const auto need = co_await service::in_background(t->flow, h.files(), need_work, got.path);
  if (!need) co_return t->fail(need.error());
  if (*need) (*need)->tell(row.model);  // else its first worker says what is wrong with it
  auto saved_work = [&h, row] { return h.catalog().save_row(row); };
  const auto saved = co_await service::in_background(t->flow, h.database(), saved_work);
  if (!saved) co_return t->fail(saved.error());
  if (!*saved) co_return t->fail(saved->error());
  h.catalog().models[ref->text()] = row;
  h.beat();
  t->event("progress",
           {{"stage", "complete"}, {"bytes_total", got.size}, {"local_path", got.path}, {"seconds", seconds}});
  t->narrate("model_complete",
             fmt::format("{} is here: {} in {:.1f} s", got.file, size_text(static_cast<double>(got.size)), seconds));
  boost::json::object told_row = colony::to_json(row.model);
  told_row["local_path"] = got.path;
  t->succeed(boost::json::value(std::move(told_row)));
}

/// A program that is there may lack a library, which the loader says to whoever runs it.
std::string why_not_a_worker(const Result<service::Ran>& ran, const std::string& path) {
  if (!ran) return ran.error().message;
  if (ran->exit_code == 0) return path + " --build-info names another kind";
  return fmt::format("{} --build-info ended with {}; run it by hand to see what it lacks", path, ran->exit_code);
}

Procedure worker_install(TaskPtr t, Hive& h, Order o) {
  t->start();
  const std::string path = fmt::format("{}/llorch-worker-{}", h.options().worker_dir, o.kind);
  t->narrate("worker_install", fmt::format("looking for a {} worker", o.kind));
  auto text_work = [path](const service::Cancellation& called_off) {
    return service::run_program({path, "--build-info"}, -1, service::Stderr::kNone,
                                {"the worker program", kProgramTime, true, called_off.get()});
  };
  const auto ran = co_await service::in_background(t->flow, h.programs(), text_work, o.kind);
  if (!ran) co_return t->fail(ran.error());
  const bool good = *ran && (*ran)->exit_code == 0;
  const auto parsed = json::parse(good ? (*ran)->output : "", "build info");
  const auto* about = parsed ? parsed->if_object() : nullptr;
  if (!about || json::find_text(*about, "backend").value_or("") != o.kind)
    co_return t->fail({ErrorCode::kNoWorkersAvailable, fmt::format("there is no {} worker program to install on this "
                                                                   "hive: {}",
                                                                   o.kind, why_not_a_worker(*ran, path))});
  WorkerRow row{{"llorch-worker-" + o.kind, o.kind, json::find_text(*about, "version").value_or("")},
                path,
                json::find_text(*about, "build_id").value_or("")};
  auto saved_work = [&h, row] { return h.catalog().save_row(row); };
  const auto saved = co_await service::in_background(t->flow, h.database(), saved_work);
  if (!saved) co_return t->fail(saved.error());
  if (!*saved) co_return t->fail(saved->error());
  h.catalog().workers[o.kind] = row;
  t->narrate("worker_installed",
             fmt::format("the {} worker, version {}, is in the catalog", o.kind, row.worker.version));
  t->succeed(boost::json::value(colony::to_json(row.worker)));
}

struct ReservedPort {
  int number = 0;
  std::shared_ptr<void> reservation;
};

/// A port for a worker, which nobody has; reserved in the turn that found it free, before another job looks.
Procedure find_port(FlowPtr flow, Hive& h, Step<ReservedPort>::Done done) {
  while (true) {
    auto port_work = [address = h.options().listen, ports = h.free_worker_ports()] {
      return first_bindable(address, ports);
    };
    const auto port = co_await service::in_background(flow, h.kernel(), port_work);
    if (!port) co_return done(std::unexpected(port.error()));
    if (!*port) co_return done(std::unexpected(port->error()));
    // Another worker may have got it meanwhile.
    if (const auto free = h.free_worker_ports(); std::ranges::find(free, **port) != free.end())
      co_return done(ReservedPort{**port, h.reserve_port(**port)});
  }
}

/// Until a worker that was started says that it serves; the task tells how much of the model it has.
Procedure await_awake(TaskPtr t, Hive& h, WorkerPtr w, Step<bool>::Done done) {
  for (int told = 0; !w->awake;) {
    const auto changed = co_await h.changed().wait(t->flow, std::chrono::milliseconds(500));
    if (!changed) co_return done(std::unexpected(changed.error()));
    if (w->loaded_percent > std::exchange(told, w->loaded_percent))
      t->event("progress", {{"stage", "loading"},
                            {"worker_id", w->facts.worker_id},
                            {"percent", w->loaded_percent},
                            {"seconds", std::chrono::duration<double>(net::Clock::now() - w->started).count()}});
    if (w->exited) co_return done(std::unexpected(Hive::why_ended(*w, "while it was starting")));
    if (net::Clock::now() - w->last_progress > std::chrono::seconds(h.options().loading_timeout_s)) {
      w->process->signal(9);
      co_return done(fail(ErrorCode::kLoadingTimeout, "{} showed no progress for {} seconds", w->facts.worker_id,
                          h.options().loading_timeout_s));
    }
  }
  done(true);
}

Procedure worker_spawn(TaskPtr t, Hive& h, Order o) {
  t->start({{"model", o.model}});
  const auto ref = usable_model(h, o);
  if (!ref) co_return t->fail(ref.error());
  const auto location = h.location_of(*ref);
  if (!location) co_return t->fail(location.error());
  if (const Status usable = h.check_device(o.device); !usable) co_return t->fail(usable.error());
  LaunchPlan plan{*ref, *location, "", o.kind, o.device, 0, 0, o.settings};
  while (h.room_is_old(plan.device)) {
    const auto changed = co_await h.changed().wait(t->flow, std::chrono::seconds(1));
    if (!changed) co_return t->fail(changed.error());
  }
  const auto known = h.catalog().models.find(ref->text());
  auto look_work = [at = *location, settings = o.settings, device = o.device, room = h.room(o.device),
                    row = known == h.catalog().models.end() ? ModelRow() : known->second] {
    RunSize size(settings, WorkerDefaults::read(cli::colony_config_path()));
    size.device = device, size.room = room;
    return std::pair(memory_need(at, size), manifest_to_ask(row));
  };
  const auto looked = co_await service::in_background(t->flow, h.files(), look_work, *location);
  if (!looked) co_return t->fail(looked.error());
  if (!looked->first) co_return t->fail(looked->first.error());
  const Need& need = *looked->first;
  plan.need = need.total(), plan.manifest = looked->second;
  if (const Status room = has_room(h, need); !room) co_return t->fail(room.error());
  if (const Status set = need.tell(plan.settings); !set) co_return t->fail(set.error());
  auto reservation = h.reserve(plan.device, plan.need);
  Step<ReservedPort> finding{t->flow, [&](Step<ReservedPort>::Done then) -> std::any {
                               find_port(t->flow, h, std::move(then));
                               return {};
                             }};
  auto port = co_await finding;
  if (!port) co_return t->fail(port.error());
  plan.port = port->number;
  const auto launch = h.prepare(plan);
  if (!launch) co_return t->fail(launch.error());
  auto start_work = [options = launch->options] { return service::Process::start(options); };
  auto started = co_await service::in_background(t->flow, h.programs(), start_work, plan.kind);
  if (!started) co_return t->fail(started.error());
  if (!*started) co_return t->fail(started->error());
  const WorkerPtr& w = launch->worker;
  w->pinned = o.pinned;
  h.launched(w, launch->options.arguments[0], **std::move(started));
  reservation.reset(), port->reservation.reset();  // from now on they are the worker's
  t->on_cancel = [&h, w] { stop_worker(h.gate().flow(), h, w, [] {}); };
  auto confinement = h.confinement(*w);
  auto confined = co_await service::in_background(t->flow, h.kernel(), confinement);
  if (!confined) co_return t->fail(confined.error());
  if (const Status kept = h.confine(*w, *std::move(confined)); !kept) co_return t->fail(kept.error());
  t->narrate("worker_spawn",
             fmt::format("{} starts on port {} with {}, {}, {} promised", w->facts.worker_id, w->facts.port,
                         ref->text(), need.context_text(), size_text(static_cast<double>(plan.need))),
             {{"worker_id", w->facts.worker_id}, {"model_ref", ref->text()}});
  t->event("progress", {{"stage", "spawning"}, {"worker_id", w->facts.worker_id}, {"pid", w->facts.pid}});
  t->event("progress", {{"stage", "loading"}, {"worker_id", w->facts.worker_id}});
  Step<bool> waking{t->flow, [&](Step<bool>::Done then) -> std::any {
                      await_awake(t, h, w, std::move(then));
                      return {};
                    }};
  if (const auto awake = co_await waking; !awake) co_return t->fail(awake.error());
  t->on_cancel = nullptr;
  t->narrate("worker_ready", fmt::format("{} is awake", w->facts.worker_id), {{"worker_id", w->facts.worker_id}});
  t->event("progress", {{"stage", "ready"}, {"worker_id", w->facts.worker_id}});
  t->succeed(boost::json::value({{"worker_id", w->facts.worker_id},
                                 {"port", w->facts.port},
                                 {"pid", w->facts.pid},
                                 {"status", w->facts.state},
                                 {"uri", w->facts.uri}}));
}

Procedure worker_delete(TaskPtr t, Hive& h, WorkerPtr w) {
  t->start();
  t->narrate("worker_stop", fmt::format("{} is told to stop", w->facts.worker_id));
  const auto gone = std::make_shared<bool>(false);
  stop_worker(h.gate().flow(), h, w, [gone, &h] {
    *gone = true;
    h.changed().notify();
  });
  while (!*gone) {
    const auto changed = co_await h.changed().wait(t->flow, std::chrono::seconds(1));
    if (!changed) co_return t->fail(changed.error());
  }
  boost::json::object info = process_info(*w);
  info["status"] = "stopped";
  t->succeed(boost::json::value(std::move(info)));
}

/// What a worker has written, and while it runs what it goes on to write (`follow`).
Procedure worker_logs(TaskPtr t, Hive& h, Order o) {
  t->start();
  WorkerPtr w = o.pid > 0 ? h.worker_with_pid(o.pid) : nullptr;
  if (const auto it = h.workers().find(o.worker_id); !w && it != h.workers().end()) w = it->second;
  const std::string id = w ? w->facts.worker_id : o.worker_id;
  const std::string path = fmt::format("{}/logs/{}.log", h.options().data_dir, id);
  auto tail_work = [path, lines = o.lines] { return LogReader::at_tail(path, lines); };
  const auto from = co_await service::in_background(t->flow, h.files(), tail_work, path);
  if (!from) co_return t->fail(from.error());
  if (!*from) co_return t->fail(from->error());
  const auto reader = std::make_shared<LogReader>(**from);
  std::int64_t told = 0;
  while (true) {
    const bool last = !o.follow || !w || w->exited;  // asked before reading, so that nothing is missed
    auto read_work = [reader, path] { return reader->read(path); };
    const auto read = co_await service::in_background(t->flow, h.files(), read_work, path);
    if (!read) co_return t->fail(read.error());
    if (!*read) co_return t->fail(read->error());
    for (const std::string& line : (*read)->lines) t->event("log", {{"worker_id", id}, {"line", line}});
    told += static_cast<std::int64_t>((*read)->lines.size());
    if ((*read)->more) continue;
    if (last) break;
    const auto changed = co_await h.changed().wait(t->flow, std::chrono::seconds(1));
    if (!changed) co_return t->fail(changed.error());
  }
  t->succeed(boost::json::value({{"worker_id", id}, {"lines", told}}));
}

/// A worker that serves a model; null: none.
WorkerPtr worker_of(Hive& h, const colony::ModelRef& ref) {
  for (const auto& [id, w] : h.workers())
    if (w->facts.model_ref == ref.text()) return w;
  return nullptr;
}

Procedure model_delete(TaskPtr t, Hive& h, Order o) {
  t->start();
  const auto ref = colony::parse_model_ref(o.model);
  if (!ref) co_return t->fail(ref.error());
  if (ref->kind == ModelRef::Kind::kBuiltin)
    co_return t->fail({ErrorCode::kResourceInUse, "a builtin model is part of the program"});
  if (const WorkerPtr w = worker_of(h, *ref))
    co_return t->fail({ErrorCode::kResourceInUse, fmt::format("{} serves the model", w->facts.worker_id)});
  if (ref->kind == ModelRef::Kind::kFile)
    co_return t->fail({ErrorCode::kInvalidRequest,
                       "a file that is named by its path is a person's own: only models that a hive has fetched are "
                       "deleted by it"});
  const auto it = h.catalog().models.find(ref->text());
  if (it == h.catalog().models.end()) co_return t->fail({ErrorCode::kModelNotFound, "this hive has no such model"});
  const ModelRow row = it->second;
  h.catalog().models.erase(it);
  // Two references may name one file. The row goes though its file cannot be removed.
  const auto has_it = [&](const auto& other) { return other.second.path == row.path; };
  if (std::ranges::none_of(h.catalog().models, has_it)) {
    auto removed_work = [hub = h.options().hub.home + "/hub", path = row.path] { return remove_from_cache(hub, path); };
    const auto removed = co_await service::in_background(t->flow, h.files(), removed_work, row.path);
    if (!removed) co_return t->fail(removed.error());
    if (!*removed) t->narrate("model_file_kept", removed->error().message);
  }
  auto deleted_work = [&h, row] { return h.catalog().delete_row(row.model.ref); };
  const auto deleted = co_await service::in_background(t->flow, h.database(), deleted_work);
  if (!deleted) co_return t->fail(deleted.error());
  if (!*deleted) co_return t->fail(deleted->error());
  t->narrate("model_deleted", fmt::format("{} is gone", ref->text()));
  t->succeed(boost::json::value({{"id", row.model.id}, {"status", "deleted"}}));
}

/// Whether a worker that runs stays when it is idle.
void worker_pin(const TaskPtr& t, const WorkerPtr& w, bool pinned) {
  t->start();
  w->pinned = pinned;
  boost::json::object info = process_info(*w);
  info["pinned"] = pinned;
  t->succeed(boost::json::value(std::move(info)));
}

/// Operations that only look, answered at once.
void look(const TaskPtr& t, Hive& h, const Order& o) {
  t->start();
  boost::json::array list;
  if (o.operation == "worker_process_list") {
    for (const auto& [id, w] : h.workers()) list.push_back(process_info(*w));
    return t->succeed(boost::json::value(std::move(list)));
  }
  if (o.operation == "model_list") {
    for (const auto& [ref, row] : h.catalog().models) list.push_back(colony::to_json(row.model));
    return t->succeed(boost::json::value(std::move(list)));
  }
  if (o.operation == "worker_process_get") {
    const WorkerPtr w = h.worker_with_pid(o.pid);
    if (!w) return t->fail({ErrorCode::kWorkerNotFound, "this hive has no such worker process"});
    return t->succeed(boost::json::value(process_info(*w)));
  }
  const auto ref = colony::parse_model_ref(o.model);  // model_get
  const auto it = ref ? h.catalog().models.find(ref->text()) : h.catalog().models.end();
  if (const WorkerPtr w = ref ? worker_of(h, *ref) : nullptr; w && it == h.catalog().models.end()) {
    const auto* bytes = w->about.if_contains("model_bytes");
    return t->succeed(boost::json::value(
        colony::to_json(colony::Model{ref->short_name(), ref->text(), ref->short_name(), w->facts.quant, "Available",
                                      "", bytes && bytes->is_number() ? bytes->to_number<std::int64_t>() : 0})));
  }
  if (it == h.catalog().models.end()) return t->fail({ErrorCode::kModelNotFound, "this hive has no such model"});
  t->succeed(boost::json::value(colony::to_json(it->second.model)));
}

/// The device, and the kind of worker that runs there where the order names none.
void read_device(const Hive& h, wire::Fields& f, Order& o) {
  const auto named = f.text("device", 32);
  const auto device = colony::parse_device(named.value_or(o.kind == colony::kGpuKind ? "cuda:0" : "cpu"));
  if (!device) return f.violation("device", "cpu, cuda:0, ...", device.error().message);
  o.device = h.one_device(*device);
  if (o.kind.empty()) o.kind = colony::is_gpu(o.device) ? colony::kGpuKind : "cpu";
  if (o.operation == "worker_spawn" && !colony::runs_on(o.kind, o.device))
    f.violation("device", "one of the worker's kind", fmt::format("a {} worker does not run on {}", o.kind, o.device));
}

void read_settings(wire::Fields& f, Order& o) {
  const auto* given = f.take("settings");
  if (!given) return;
  auto settings = colony::ModelSettings::from_json(*given);
  if (!settings) return f.violation("settings", "settings of a model", settings.error().message);
  o.settings = *std::move(settings);
}

void create(Hive& h, const ContextPtr& c) {
  const auto body = wire::parse_body(c->request.body);
  if (!body) return c->fail(body.error());
  if (h.stopping()) return c->fail({ErrorCode::kShuttingDown, "the hive is shutting down"});
  wire::Fields f(*body);
  Order o;
  o.operation = f.text("operation", 64).value_or("");
  o.model = f.text("model", 512).value_or(f.text("id", 512).value_or(""));
  if (o.operation == "worker_process_logs") {
    o.worker_id = f.text("worker_id", 64).value_or("");
    o.lines = f.integer("lines", 1, 10'000).value_or(100), o.follow = f.boolean("follow").value_or(false);
  } else {
    o.kind = f.text("worker", 32).value_or(f.text("worker_id", 64).value_or(""));
  }
  if (o.kind.starts_with("llorch-worker-")) o.kind.erase(0, 14);
  read_device(h, f, o);
  o.pid = f.integer("pid", 1, 1 << 30).value_or(0);
  if (o.operation == "worker_spawn" || o.operation == "worker_pin") o.pinned = f.boolean("pinned").value_or(false);
  if (o.operation == "worker_spawn") read_settings(f, o);
  if (const auto allow = f.text("allow", 32)) {
    const auto access = colony::parse_model_access(*allow);
    if (!access) f.violation("allow", "file, fetch, or none", access.error().message);
    o.access = access.value_or(colony::ModelAccess());
  }
  (void)f.take("hive_id"), (void)f.take("job_id");
  if (!colony::is_hive_operation(o.operation))
    return c->fail({ErrorCode::kUnknownOperation, "a hive knows no such operation"}, {}, "operation");
  for (const std::string& name : f.unknown())
    f.violation(name, "known field", fmt::format("{} is no field of this operation", name));
  if (!colony::is_worker_kind(o.kind))
    f.violation("worker", "cpu, cuda or accelerate", "worker must be cpu, cuda or accelerate");
  const bool about_model =
      o.operation == "worker_spawn" || (o.operation.starts_with("model_") && o.operation != "model_list");
  if (about_model)
    if (const auto ref = colony::parse_model_ref(o.model); !ref)
      f.violation("model", "model reference", ref.error().message);
  const bool of_process =
      o.operation == "worker_process_get" || o.operation == "worker_process_delete" || o.operation == "worker_pin";
  if (of_process && o.pid == 0) f.violation("pid", "required", "pid is required");
  if (o.operation == "worker_process_logs" && o.pid == 0 && security::check_identifier(o.worker_id, 64))
    f.violation("worker_id", "worker_id or pid", "worker_id or pid is required");
  if (!f.violations().empty())
    return c->fail(wire::violation_error(f.violations()), wire::violation_details(f.violations()),
                   f.violations().front().field);
  WorkerPtr w;
  if (o.operation == "worker_process_logs" && o.pid > 0 && !h.worker_with_pid(o.pid))
    return c->fail({ErrorCode::kWorkerNotFound, "this hive has no such worker process"}, {}, "pid");
  if ((o.operation == "worker_process_delete" || o.operation == "worker_pin") && !(w = h.worker_with_pid(o.pid)))
    return c->fail({ErrorCode::kWorkerNotFound, "this hive has no such worker process"}, {}, "pid");
  const TaskPtr t = h.desk().create(c, o.operation, true, false);
  c->reply(202, service::created(*t->job, kPrefix, 0));
  if (o.operation == "model_download")
    model_download(t, h, o);
  else if (o.operation == "worker_install")
    worker_install(t, h, o);
  else if (o.operation == "worker_spawn")
    worker_spawn(t, h, o);
  else if (o.operation == "worker_process_delete")
    worker_delete(t, h, w);
  else if (o.operation == "worker_pin")
    worker_pin(t, w, o.pinned);
  else if (o.operation == "worker_process_logs")
    worker_logs(t, h, o);
  else if (o.operation == "model_delete")
    model_delete(t, h, o);
  else
    look(t, h, o);
}

}  // namespace

void add_route_jobs(Hive& h) {
  h.front().router().route<service::Scope::kAdmin>("POST", kPrefix, [&h](const ContextPtr& c) { create(h, c); });
  service::add_job_routes(h.front().router(), h.loop(), h.desk().jobs(),
                          {.prefix = kPrefix,
                           .cancel = [&h](const job::JobPtr& j) { h.desk().cancel(j); },
                           .disconnected = [&h](const job::JobPtr& j) { h.desk().disconnected(j); },
                           .hidden = {},
                           .framing = {}});
}

}  // namespace llorch::hive
