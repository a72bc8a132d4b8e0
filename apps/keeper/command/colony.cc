// queen, worker, model: the parts of a colony.

#include "format/json.h"
#include "keeper/parts.h"

namespace llorch::keeper {
namespace {

int start_queen(const Common& common) {
  Session session(common);
  if (const Status s = session.wake(true); !s) return complain(common, s.error());
  if (common.json) cli::print({{"queen", "awake"}, {"url", common.queen}});
  return 0;
}

int stop_queen(const Common& common, bool all) {
  Session session(common);
  if (!session.awake()) return session.say("the queen is asleep already"), 0;
  const auto v = session.call("POST", all ? "/v1/shutdown?all=1" : "/v1/shutdown");
  if (!v) return complain(common, v.error());
  for (int i = 0; i < 300 && session.awake(); ++i) Session::pause(std::chrono::milliseconds(50));
  if (session.awake()) return complain(common, {ErrorCode::kOperationTimeout, "the queen has not stopped"});
  session.say("the queen is asleep");
  return 0;
}

void add_queen(CLI::App& app, int& exit_code) {
  CLI::App* queen = app.add_subcommand("queen", "the colony's head");
  queen->require_subcommand(1);
  const auto common = std::make_shared<Common>();
  command(*queen, "start", "start a queen that stays", common)->callback([common, &exit_code] {
    exit_code = start_queen(*common);
  });
  const auto all = std::make_shared<bool>(false);
  const auto stopping = std::make_shared<Common>();
  CLI::App* stop = command(*queen, "stop", "stop the queen and what she has started", stopping);
  stop->add_flag("--all", *all, "hives that joined on their own too");
  stop->callback([stopping, all, &exit_code] { exit_code = stop_queen(*stopping, *all); });
  const auto asking = std::make_shared<Common>();
  command(*queen, "status", "is she awake?", asking)->callback([asking, &exit_code] {
    Session session(*asking);
    const bool awake = session.awake();
    if (asking->json)
      cli::print({{"queen", awake ? "awake" : "asleep"}, {"url", asking->queen}});
    else
      std::printf("queen at %s: %s\n", asking->queen.c_str(), awake ? "awake" : "asleep");
    exit_code = 0;
  });
}

void add_worker(CLI::App& app, int& exit_code) {
  CLI::App* worker = app.add_subcommand("worker", "worker processes");
  worker->require_subcommand(1);
  struct Flags {
    Common common;
    std::string hive, model, device = "cpu", kind = "cpu";
    std::int64_t pid = 0;
    boost::json::object order(const char* operation) const {
      boost::json::object o{{"operation", operation}};
      if (!hive.empty()) o["hive_id"] = hive;
      if (pid > 0) o["pid"] = pid;
      return o;
    }
  };
  const auto add = [&](const char* name, const char* help) {
    auto f = std::make_shared<Flags>();
    CLI::App* c = worker->add_subcommand(name, help);
    f->common.add(*c);
    c->add_option("--hive", f->hive, "default: this machine's");
    return std::pair(c, f);
  };
  const auto print = [](const Value& v) { print_table(v, {"pid", "worker_id", "model", "port", "status"}); };
  const auto [list, lf] = add("list", "workers of a hive");
  list->callback(
      [lf = lf, print, &exit_code] { exit_code = operate(lf->common, lf->order("worker_process_list"), print); });
  const auto [spawn, sf] = add("spawn", "start a worker with a model");
  spawn->add_option("--model,-m", sf->model)->required();
  spawn->add_option("--device", sf->device)->capture_default_str();
  spawn->add_option("--kind", sf->kind)->capture_default_str();
  spawn->callback([sf = sf, print, &exit_code] {
    boost::json::object o = sf->order("worker_spawn");
    o["model"] = sf->model, o["device"] = sf->device, o["worker"] = sf->kind;
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
  install->add_option("--kind", inf->kind)->capture_default_str();
  install->callback([inf = inf, &exit_code] {
    boost::json::object o = inf->order("worker_install");
    o["worker_id"] = inf->kind;
    exit_code = operate(inf->common, o, [](const Value& v) { print_table(v, {"id", "kind", "version"}); });
  });
}

void add_alias(CLI::App& model, int& exit_code) {
  struct Flags {
    Common common;
    std::string name, model;
  };
  const auto f = std::make_shared<Flags>();
  CLI::App* c = model.add_subcommand("alias", "a short name for a model");
  f->common.add(*c);
  c->add_option("name", f->name, "of a-z 0-9 . _ -")->required();
  c->add_option("model", f->model, "what it means")->required();
  c->callback([f, &exit_code] {
    exit_code =
        operate(f->common, {{"operation", "model_alias"}, {"name", f->name}, {"model", f->model}}, [](const Value& v) {
          print_table(v, {"name", "ref"});
        });
  });
}

void add_model(CLI::App& app, int& exit_code) {
  CLI::App* model = app.add_subcommand("model", "models of a hive");
  model->require_subcommand(1);
  add_alias(*model, exit_code);
  for (const auto& [name, operation, help] :
       {std::tuple("list", "model_list", "models that a hive has"),
        std::tuple("download", "model_download", "fetch a model"), std::tuple("get", "model_get", "one model"),
        std::tuple("delete", "model_delete", "delete a model's file")}) {
    struct Flags {
      Common common;
      std::string hive, model;
    };
    const auto f = std::make_shared<Flags>();
    CLI::App* c = model->add_subcommand(name, help);
    f->common.add(*c);
    c->add_option("--hive", f->hive, "default: this machine's");
    if (std::string_view(name) != "list")
      c->add_option("model", f->model, "org/repo[:file-or-quant], /path/to/model.gguf, or an alias")->required();
    c->callback([f, operation = operation, &exit_code] {
      boost::json::object o{{"operation", operation}};
      if (!f->hive.empty()) o["hive_id"] = f->hive;
      if (!f->model.empty()) o["model"] = f->model;
      exit_code = operate(f->common, o, [operation](const Value& v) {
        print_table(v, std::string_view(operation) == "model_delete"
                           ? std::vector<const char*>{"id", "status"}
                           : std::vector<const char*>{"ref", "quant", "size_bytes", "status"});
      });
    });
  }
}

}  // namespace

void add_command_colony(CLI::App& app, int& exit_code) {
  add_queen(app, exit_code);
  add_worker(app, exit_code);
  add_model(app, exit_code);
}

}  // namespace llorch::keeper
