// status: queen, hives, devices, workers, queue. doctor: every part, checked.
#include <cstdlib>
#include <filesystem>

#include "format/json.h"
#include "gpu/diagnosis.h"
#include "keeper/asking.h"
#include "keeper/gpu_trial.h"
#include "keeper/hints.h"
#include "keeper/parts.h"
#include "service/process.h"

namespace llorch::keeper {
namespace {

std::string text(const boost::json::value& v, const char* key) {
  const auto* o = v.if_object();
  return o ? json::find_text(*o, key).value_or("") : "";
}
std::int64_t number(const boost::json::value& v, const char* key) {
  const auto* o = v.if_object();
  const auto* n = o ? o->if_contains(key) : nullptr;
  return n && n->is_int64() ? n->get_int64() : 0;
}
const boost::json::array& list(const boost::json::value& v, const char* key) {
  static const boost::json::array empty;
  const auto* o = v.if_object();
  const auto* a = o ? o->if_contains(key) : nullptr;
  return a && a->is_array() ? a->get_array() : empty;
}

void print_device(const boost::json::value& d) {
  const std::string problem = text(d, "problem");
  show(stdout, "  device %-8s %s, %lld of %lld MB free%s\n", text(d, "id").c_str(), text(d, "name").c_str(),
       static_cast<long long>(number(d, "memory_free_bytes") >> 20),
       static_cast<long long>(number(d, "memory_total_bytes") >> 20),
       problem.empty() ? "" : (": not used: " + problem).c_str());
}

/// Of a worker; empty where it has none, or that is not known.
std::string memory_on_gpu(const boost::json::value& w) {
  const std::int64_t mb = number(w, "vram_mb");
  return mb > 0 ? fmt::format(" ({} MB)", mb) : "";
}

void print_status(const boost::json::value& v) {
  show(stdout, "queen %s, awake\n", text(v, "version").c_str());
  if (list(v, "hives").empty()) show(stdout, "no hive is online\n");
  for (const auto& h : list(v, "hives")) {
    show(stdout, "hive %s at %s\n", text(h, "id").c_str(), text(h, "url").c_str());
    for (const auto& d : list(h, "devices")) print_device(d);
    for (const auto& w : list(v, "workers"))
      if (text(w, "hive_id") == text(h, "id"))
        show(stdout, "  worker %s/%s  pid %lld  %s  %s%s  %s  %lld running\n", text(h, "id").c_str(),
             text(w, "worker_id").c_str(),  // ids are a hive's own: two hives may have the same
             static_cast<long long>(number(w, "pid")), text(w, "model_ref").c_str(), text(w, "device").c_str(),
             memory_on_gpu(w).c_str(), text(w, "state").c_str(), static_cast<long long>(number(w, "inflight")));
  }
  for (const auto& h : list(v, "offline")) {
    const std::string host = text(h, "host");  // none until it has spoken
    const std::string at = host.empty() ? "" : fmt::format(" at {}:{}", host, number(h, "port"));
    const auto* revoked = h.is_object() ? h.get_object().if_contains("revoked") : nullptr;
    show(stdout, "hive %s%s: offline%s\n", text(h, "id").c_str(), at.c_str(),
         revoked && revoked->is_bool() && revoked->get_bool() ? "; its certificates were revoked: it must join again"
                                                              : "");
  }
  const auto* o = v.if_object();
  if (const auto* q = o ? json::find_object(*o, "queue") : nullptr)
    show(stdout, "queue: %lld interactive, %lld batch\n", static_cast<long long>(number(*q, "interactive")),
         static_cast<long long>(number(*q, "batch")));
}

int status(const Common& common) {
  Session session(common);
  const auto awake = session.awake();
  if (!awake) return complain(common, awake.error());
  if (!*awake) {
    if (common.json)
      cli::print({{"queen", "asleep"}, {"url", session.queen()}});
    else
      show(stdout, "queen at %s: %s\n", session.queen().c_str(), silent_word(session.queen()));
    return 0;
  }
  const auto v = session.call("GET", "/v1/status");
  if (!v) return complain(common, v.error());
  if (common.json)
    cli::print(*v);
  else
    print_status(*v);
  return 0;
}

int check_all(const Common& common, const gpu::MachineFacts& machine) {
  int bad = 0;
  boost::json::array checks;
  const auto told = [&](const std::string& what, bool ok, const std::string& detail) {
    bad += !ok;
    checks.push_back({{"check", what}, {"ok", ok}, {"detail", detail}});
    if (!common.json) show(stdout, "%s  %-34s %s\n", ok ? "ok " : "BAD", what.c_str(), detail.c_str());
    std::fflush(stdout);
  };
  for (const char* program : {"llorch-queen", "llorch-hive", "llorch-worker-cpu"}) {
    const std::string path = service::own_folder() + "/" + program;
    told(program, access(path.c_str(), X_OK) == 0, path);
  }
  for (const gpu::Finding& f : gpu::diagnose(machine)) told(f.what, f.good, f.detail);
  for (const gpu::Gpu& g : machine.reading.gpus) {
    if (machine.worker_flaw || !gpu::problem_of(g, machine.reading.driver, machine.reading.cuda_version).empty())
      continue;
    const auto tried = try_gpu(machine.worker, g.index);
    told(fmt::format("a token of cuda:{}", g.index), tried.has_value(), tried ? *tried : tried.error().message);
  }
  std::error_code problem;
  std::filesystem::create_directories(common.data_dir, problem);
  told("data directory", access(common.data_dir.c_str(), W_OK) == 0, common.data_dir);
  Common quiet = common;
  quiet.quiet = true, quiet.json = false;
  Session session(quiet);
  const Status woken = session.wake();
  told("queen", woken.has_value(),
       woken ? (session.started_queen() ? "started for this check" : "was awake") : woken.error().message);
  if (woken) {
    std::vector<std::string> actors;
    boost::json::object order{{"operation", "infer"},
                              {"model", "builtin:haiku"},
                              {"prompt", "Write a haiku about health"},
                              {"max_tokens", 40}};
    const auto outcome = session.run(order, [&](std::string_view type, const boost::json::object& data) {
      if (type != "narration") return;
      const std::string by = json::find_text(data, "emitted_by").value_or("");
      if (std::ranges::find(actors, by) == actors.end()) actors.push_back(by);
    });
    told("a model answers", outcome.has_value() && !outcome->text.empty(),
         outcome ? outcome->text.substr(0, outcome->text.find('\n')) + " ..."
                 : outcome.error().message + ": " + hint_for(common, outcome.error()));
    const auto has = [&](const char* who) { return std::ranges::find(actors, who) != actors.end(); };
    told("narration of queen and worker", has("queen") && has("worker"),
         fmt::format("{} daemons were heard", actors.size()));
    const auto v = session.call("GET", "/v1/status");
    told("devices", v && !list(*v, "hives").empty() && !list(list(*v, "hives")[0], "devices").empty(),
         v ? fmt::format("{} hives online", list(*v, "hives").size()) : v.error().message);
  }
  if (common.json) cli::print({{"ok", bad == 0}, {"checks", std::move(checks)}});
  return bad == 0 ? 0 : 1;
}

int doctor(const Common& common) {
  const gpu::MachineFacts machine = gpu::look(service::own_folder() + "/llorch-worker-cuda");
  const int code = check_all(common, machine);
  if (machine.silent) {  // a thread hangs in the driver's library, whose destructors may wait for it
    std::fflush(nullptr);
    std::_Exit(code);
  }
  return code;
}

}  // namespace

void add_command_status(CLI::App& app, int& exit_code) {
  const auto add = [&](const char* name, const char* help, int (*work)(const Common&)) {
    const auto common = std::make_shared<Common>();
    CLI::App* c = app.add_subcommand(name, help);
    common->add(*c);
    c->callback([common, work, &exit_code] { exit_code = work(*common); });
  };
  add("status", "queen, hives, devices, workers and queue", status);
  add("doctor", "check programs, GPUs, queen, hive, worker and narration", doctor);
}

}  // namespace llorch::keeper
