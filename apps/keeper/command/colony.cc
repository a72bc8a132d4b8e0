// worker, model: what hives hold.

#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/human.h"
#include "base/nearest.h"
#include "format/json.h"
#include "keeper/model_argument.h"
#include "keeper/model_settings_command.h"
#include "keeper/parts.h"
#include "keeper/suggestions.h"
#include "number_flags.h"

namespace llorch::keeper {
namespace {

/// A line of our own logs says its time, level and message; others stay as they are.
std::string for_people(const std::string& line) {
  const auto parsed = json::parse(line, "line");
  const auto* o = parsed ? parsed->if_object() : nullptr;
  const auto message = o ? json::find_text(*o, "message") : std::nullopt;
  if (!message) return line;
  return fmt::format("{} {:5} {}", json::find_text(*o, "timestamp").value_or(""),
                     json::find_text(*o, "level").value_or(""), *message);
}

/// The lines of a worker's log, as they come.
int show_log(const Common& common, const boost::json::object& order) {
  Session session(common);
  if (const Status s = session.wake(); !s) return complain(common, s.error());
  const auto outcome = session.run(order, [&common](std::string_view type, const boost::json::object& data) {
    if (type != "log") return;
    if (common.json)
      cli::print(data);
    else
      show(stdout, "%s\n", for_people(json::find_text(data, "line").value_or("")).c_str());
    std::fflush(stdout);
  });
  if (!outcome) return complain(common, outcome.error());
  return outcome->interrupted ? 130 : 0;
}

struct WorkerFlags {
  Common common;
  std::string hive, model, device, kind;
  std::int64_t pid = 0;
  boost::json::object order(const char* operation) const {
    boost::json::object o{{"operation", operation}};
    if (!hive.empty()) o["hive_id"] = hive;
    if (pid > 0) o["pid"] = pid;
    return o;
  }
};

void add_logs(CLI::App& worker, int& exit_code) {
  struct LogFlags {
    std::string worker;
    int lines = 100;
    bool follow = false;
  };
  const auto gf = std::make_shared<WorkerFlags>();
  CLI::App* logs = worker.add_subcommand("logs", "what a worker has written");
  gf->common.add(*logs);
  logs->add_option("--hive", gf->hive, "default: that of the queen's machine, or the first that is online");
  const auto more = std::make_shared<LogFlags>();
  logs->add_option("worker", more->worker, "its id, or hive/id as `llorch status` has it, or its pid")->required();
  logs->add_option("-n,--lines", more->lines, "the last so many")->check(CLI::Range(1, 10'000))->capture_default_str();
  logs->add_flag("-f,--follow", more->follow, "and what comes, until it ends or Ctrl-C");
  logs->callback([gf, more, &exit_code] {
    boost::json::object o = gf->order("worker_process_logs");
    o["lines"] = more->lines, o["follow"] = more->follow;
    std::int64_t pid = 0;
    const char* end = more->worker.data() + more->worker.size();
    if (std::from_chars(more->worker.data(), end, pid).ptr == end && pid > 0)
      o["pid"] = pid;
    else
      name_worker(more->worker, o);
    exit_code = show_log(gf->common, o);
  });
}

void add_worker(CLI::App& app, int& exit_code) {
  CLI::App* worker = app.add_subcommand("worker", "worker processes");
  worker->require_subcommand(1);
  add_logs(*worker, exit_code);
  const auto add = [&](const char* name, const char* help) {
    auto f = std::make_shared<WorkerFlags>();
    CLI::App* c = worker->add_subcommand(name, help);
    f->common.add(*c);
    c->add_option("--hive", f->hive, "default: that of the queen's machine, or the first that is online");
    return std::pair(c, f);
  };
  const auto print = [](const Value& v) { print_table(v, {"pid", "worker_id", "model", "port", "status"}); };
  const auto [list, lf] = add("list", "workers of a hive");
  list->callback(
      [lf = lf, print, &exit_code] { exit_code = operate(lf->common, lf->order("worker_process_list"), print); });
  const auto [spawn, sf] = add("spawn", "start a worker with a model");
  spawn->add_option("--model,-m", sf->model)->required();
  spawn->add_option("--device", sf->device, "cpu (default), gpu (any GPU), or gpu0, which is cuda:0");
  spawn->add_option("--kind", sf->kind, "cpu, accelerate, cuda (default: cpu, on a GPU cuda)");
  spawn->callback([sf = sf, &exit_code] {
    boost::json::object o = sf->order("worker_spawn");
    const auto model = model_meant(sf->model, sf->common.of_this_machine() && sf->hive.empty());
    if (!model) {
      exit_code = complain(sf->common, model.error());
      return;
    }
    o["model"] = *model;
    if (!sf->device.empty()) o["device"] = sf->device;
    if (!sf->kind.empty()) o["worker"] = sf->kind;
    exit_code = operate(sf->common, o, [](const Value& v) { print_table(v, {"pid", "worker_id", "port", "status"}); });
  });
  for (const auto& [name, operation, help] : {std::tuple("get", "worker_process_get", "one worker"),
                                              std::tuple("delete", "worker_process_delete", "stop a worker")}) {
    const auto [c, f] = add(name, help);
    c->add_option("pid", f->pid)->required()->check(CLI::PositiveNumber);
    c->callback([f = f, operation = operation, print, &exit_code] {
      exit_code = operate(f->common, f->order(operation), print);
    });
  }
  const auto [install, inf] = add("install", "register a worker program of the hive's machine");
  inf->kind = "cpu";
  install->add_option("--kind", inf->kind, "cpu, accelerate, cuda")->capture_default_str();
  install->callback([inf = inf, &exit_code] {
    boost::json::object o = inf->order("worker_install");
    o["worker_id"] = inf->kind;
    exit_code = operate(inf->common, o, [](const Value& v) { print_table(v, {"id", "kind", "version"}); });
  });
}

/// For people: what a queen says of a model.
std::string state_text(std::string state) {
  if (state == "Available") return "downloaded";
  if (state == "Downloading" || state == "Failed") state[0] = static_cast<char>(state[0] + 'a' - 'A');
  std::ranges::replace(state, '_', ' ');
  return state;
}

struct AliasFlags {
  Common common;
  std::string name, model;
  bool remove = false;
};

/// Without a model: the names that there are, or one of them, or the end of one.
int aliases(const AliasFlags& f) {
  Session session(f.common);
  if (const Status s = session.wake(); !s) return complain(f.common, s.error());
  if (f.remove) {
    const auto gone = session.call("DELETE", net::url_path("/v1/aliases").segment(f.name));
    if (!gone) return complain(f.common, gone.error());
    if (f.common.json) return cli::print(gone->as_object()), 0;
    return show(stdout, "%s means nothing any more; the model stays\n", f.name.c_str()), 0;
  }
  const auto answer = session.call("GET", "/v1/aliases");
  if (!answer) return complain(f.common, answer.error());
  const auto* o = answer->if_object();
  const auto* all = o ? json::find_object(*o, "aliases") : nullptr;
  boost::json::array rows;
  std::vector<std::string> names;
  for (const auto& [name, ref] : all ? *all : boost::json::object()) {
    names.emplace_back(name);
    if (f.name.empty() || name == f.name) rows.push_back({{"name", name}, {"ref", ref}});
  }
  if (rows.empty())
    return complain(f.common, {ErrorCode::kModelNotFound,
                               fmt::format("no model has the name '{}'{}", f.name, did_you_mean(f.name, names))});
  if (f.common.json) return cli::print({{"aliases", std::move(rows)}}), 0;
  return print_table(rows, {"name", "ref"}), 0;
}

void add_alias(CLI::App& model, int& exit_code) {
  const auto f = std::make_shared<AliasFlags>();
  CLI::App* c = model.add_subcommand("alias", "short names for models: gives one, lists them, takes one back");
  f->common.add(*c);
  c->add_option("name", f->name, "of a-z 0-9 . _ -; none: all are listed");
  c->add_option("model", f->model, "what it means from now on");
  c->add_flag("--delete", f->remove, "the name means nothing any more");
  c->callback([f, &exit_code] {
    if (f->remove && (f->name.empty() || !f->model.empty()))
      throw CLI::ValidationError("--delete", "takes a name, and no model");
    if (f->model.empty()) return void(exit_code = aliases(*f));
    const auto meant = model_meant(f->model, f->common.of_this_machine());
    exit_code = !meant ? complain(f->common, meant.error())
                       : operate(f->common, {{"operation", "model_alias"}, {"name", f->name}, {"model", *meant}},
                                 [](const Value& v) {
                                   print_table(v, {"name", "ref"});
                                 });
  });
}

/// pin, unpin: whether the workers of a model stay.
void add_pins(CLI::App& model, int& exit_code) {
  struct ColonyFlags {
    Common common;
    std::string model;
  };
  for (const auto& [name, pinned, help] :
       {std::tuple("pin", true, "keep the workers of a model, also when idle or when others need their memory"),
        std::tuple("unpin", false, "let the workers of a model go again when idle or when others need their memory")}) {
    const auto f = std::make_shared<ColonyFlags>();
    CLI::App* c = model.add_subcommand(name, help);
    f->common.add(*c);
    c->add_option("model", f->model, "org/repo[:file-or-quant], a file, or an alias")->required();
    c->callback([f, pinned = pinned, &exit_code] {
      const auto meant = model_meant(f->model, false);
      exit_code = !meant ? complain(f->common, meant.error())
                         : operate(f->common, {{"operation", "model_pin"}, {"model", *meant}, {"pinned", pinned}},
                                   [](const Value& v) {
                                     print_table(v, {"id", "pinned"});
                                   });
    });
  }
}

/// All that the queen knows, wherever it is.
int list_models(const Common& common) {
  Session session(common);
  if (const Status s = session.wake(); !s) return complain(common, s.error());
  const auto answer = session.call("GET", "/v1/models");
  if (!answer) return complain(common, answer.error());
  const auto* o = answer->if_object();
  const auto* data = o ? json::find_array(*o, "data") : nullptr;
  if (!data) return complain(common, {ErrorCode::kInternal, "the queen's list of models is none"});
  if (common.json) return cli::print(*o), 0;
  boost::json::array rows;
  for (const auto& v : *data) {
    const auto* m = v.if_object();
    const auto* meta = m ? json::find_object(*m, "meta") : nullptr;
    if (!meta) continue;
    const auto names = [](const boost::json::object& from, const char* key) {
      std::string out;
      if (const auto* list = json::find_array(from, key))
        for (const auto& name : *list)
          if (name.is_string()) out += (out.empty() ? "" : ", ") + std::string(name.get_string());
      return boost::json::value(out.empty() ? "-" : out);
    };
    boost::json::object row{{"model", json::find_text(*m, "id").value_or("")},
                            {"names", names(*m, "aliases")},
                            {"state", state_text(json::find_text(*meta, "state").value_or(""))},
                            {"hives", names(*meta, "hives")}};
    for (const auto& [column, key] : {std::pair("quant", "quant"), {"size_bytes", "size_bytes"}})
      if (const auto* value = meta->if_contains(key); value && *value != boost::json::value("")) row[column] = *value;
    const auto* now = meta->if_contains("context");
    if (const auto* own = meta->if_contains("model_context"); now || own) row["context"] = now ? *now : *own;
    if (const auto* fits = meta->if_contains("fits")) row["fits"] = fits->is_bool() && fits->get_bool() ? "yes" : "no";
    rows.push_back(std::move(row));
  }
  return print_table(rows, {"model", "names", "quant", "size_bytes", "context", "fits", "state", "hives"}), 0;
}

/// Good models that fit into so much memory, the largest first; asks nobody.
int suggest(const Common& common, double memory_gb, bool all) {
  constexpr double kGb = 1e9;
  const std::int64_t memory = memory_gb > 0
                                  ? static_cast<std::int64_t>(memory_gb * kGb)
                                  : static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  boost::json::array rows;
  std::vector<Suggestion> models = suggestions();
  std::ranges::reverse(models);
  for (const Suggestion& s : models) {
    const bool fits = s.memory_bytes() <= memory;
    if (!fits && !all) continue;
    boost::json::object row{{"model", s.model}, {"licence", s.licence}, {"good_for", s.good_for}, {"fits", fits}};
    if (common.json)
      row["size_bytes"] = s.file_bytes, row["memory_bytes"] = s.memory_bytes();
    else
      row["size"] = size_text(static_cast<double>(s.file_bytes)),
      row["memory"] = size_text(static_cast<double>(s.memory_bytes())), row["fits"] = fits ? "yes" : "no";
    rows.push_back(std::move(row));
  }
  if (common.json) {
    cli::print({{"memory_bytes", memory}, {"models", std::move(rows)}});
    return 0;
  }
  if (rows.empty()) {
    show(stdout, "None of the models fits into %s; --all shows them.\n",
         size_text(static_cast<double>(memory)).c_str());
    return 0;
  }
  print_table(rows, all ? std::vector<const char*>{"model", "size", "memory", "fits", "licence", "good_for"}
                        : std::vector<const char*>{"model", "size", "memory", "licence", "good_for"});
  show(stdout, "\nFor %s of memory. `llorch run MODEL` fetches one and asks it.\n",
       size_text(static_cast<double>(memory)).c_str());
  return 0;
}

void add_suggest(CLI::App& model, int& exit_code) {
  struct SuggestFlags {
    Common common;
    double memory_gb = 0;
    bool all = false;
  };
  const auto f = std::make_shared<SuggestFlags>();
  CLI::App* c =
      command(model, "suggest", "good models for a machine of this size", std::shared_ptr<Common>(f, &f->common));
  c->add_option("--memory-gb", f->memory_gb,
                "for so much memory, of a GPU or of another machine (default: this machine's)")
      ->check(cli::number_between(0.1, 1e5));
  c->add_flag("--all", f->all, "also those that do not fit");
  c->callback([f, &exit_code] { exit_code = suggest(f->common, f->memory_gb, f->all); });
}

void add_model(CLI::App& app, int& exit_code) {
  CLI::App* model = app.add_subcommand("model", "models of a hive");
  model->require_subcommand(1);
  add_alias(*model, exit_code);
  add_pins(*model, exit_code);
  add_suggest(*model, exit_code);
  add_model_settings(*model, exit_code);
  for (const auto& [name, operation, help] :
       {std::tuple("list", "model_list", "models that there are: loaded, downloaded, named"),
        std::tuple("download", "model_download", "fetch a model"), std::tuple("get", "model_get", "one model"),
        std::tuple("load", "model_load", "see to it that a worker with the model runs"),
        std::tuple("unload", "model_unload", "stop the workers with the model"),
        std::tuple("delete", "model_delete", "delete a model's file")}) {
    struct ColonyFlags {
      Common common;
      std::string hive, model, kind, device;
    };
    const auto f = std::make_shared<ColonyFlags>();
    CLI::App* c = model->add_subcommand(name, help);
    f->common.add(*c);
    c->add_option("--hive", f->hive,
                  std::string_view(name) == "list"
                      ? "what this hive has (default: all that the queen knows)"
                      : "default: that of the queen's machine, or the first that is online");
    if (std::string_view(name) != "list")
      c->add_option("model", f->model, "org/repo[:file-or-quant] or its page on Hugging Face, a file, or an alias")
          ->required();
    if (std::string_view(name) == "load") {
      c->add_option("--kind", f->kind, "by this kind of worker: cpu, accelerate, cuda (default: any)");
      c->add_option("--device", f->device, "on this device: cpu, gpu (any GPU), or gpu0, which is cuda:0");
    }
    c->callback([f, operation = operation, &exit_code] {
      if (std::string_view(operation) == "model_list" && f->hive.empty() && f->common.direct.empty())
        return void(exit_code = list_models(f->common));
      boost::json::object o{{"operation", operation}};
      if (!f->hive.empty()) o["hive_id"] = f->hive;
      if (!f->kind.empty()) o["kind"] = f->kind;
      if (!f->device.empty()) o["device"] = f->device;
      if (!f->model.empty()) {
        // What is asked of a model that is known already does not need its file.
        const std::string_view what(operation);
        const bool needed = what == "model_load" || what == "model_download";
        const auto meant = model_meant(f->model, needed && f->common.of_this_machine() && f->hive.empty());
        if (!meant) {
          exit_code = complain(f->common, meant.error());
          return;
        }
        o["model"] = *meant;
      }
      exit_code = operate(f->common, o, [operation](const Value& v) {
        const std::string_view what(operation);
        print_table(v, what == "model_delete" || what == "model_unload" ? std::vector<const char*>{"id", "status"}
                       : what == "model_load" ? std::vector<const char*>{"id", "status", "hive_id", "worker_id"}
                                              : std::vector<const char*>{"ref", "quant", "size_bytes", "status"});
      });
    });
  }
}

}  // namespace

void add_command_colony(CLI::App& app, int& exit_code) {
  add_worker(app, exit_code);
  add_model(app, exit_code);
}

}  // namespace llorch::keeper
