#include "keeper/model_settings_command.h"

#include "colony/model_settings.h"
#include "keeper/model_argument.h"
#include "keeper/parts.h"

namespace llorch::keeper {
namespace {

struct Flags {
  Common common;
  std::string model, key, value;
};

/// What a model's settings are; a change says when it counts.
Result<Value> ask(const Flags& f, const std::string& method, const boost::json::value& body, std::string& hint) {
  if (!f.common.direct.empty()) {
    hint = "leave out --direct";
    return fail(ErrorCode::kInvalidRequest, "settings of models are kept by the queen, and not by a hive");
  }
  LLORCH_TRY(std::string model, model_meant(f.model, false));
  if (model.empty()) return fail(ErrorCode::kInvalidRequest, "the name of a model is wanted");
  if (model.starts_with('/')) model.insert(0, "file:");
  Session session(f.common);
  LLORCH_OK(session.wake());
  return session.call(method, net::url_path("/v1/model-settings").segment(model), body);
}

std::string text(const boost::json::object& o, const char* key) { return json::find_text(o, key).value_or(""); }

void print_settings(const boost::json::object& answer) {
  const auto* settings = json::find_object(answer, "settings");
  show(stdout, "%s\n", text(answer, "model").c_str());
  if (!settings || settings->empty())
    return show(stdout, "nothing is set: `llorch model set NAME KEY VALUE`; KEY is one of those of --help\n");
  boost::json::array rows;
  for (const auto& [key, value] : *settings) {
    const auto* o = value.if_object();
    if (!o) continue;
    const std::string from = text(*o, "from"), file = text(*o, "file");
    rows.push_back({{"setting", key},
                    {"value", text(*o, "value")},
                    {"from", file.empty() ? from : fmt::format("{} (the file says {})", from, file)}});
  }
  print_table(rows, {"setting", "value", "from"});
}

int report(const Flags& f, const Result<Value>& answer, const std::string& hint, const std::string& change) {
  if (!answer) return complain(f.common, answer.error(), hint);
  const auto* o = answer->if_object();
  if (f.common.json || !o) return cli::print(answer->is_object() ? answer->get_object() : boost::json::object()), 0;
  if (change.empty()) return print_settings(*o), 0;
  const auto* loaded = o->if_contains("loaded");
  const std::int64_t workers = loaded && loaded->is_int64() ? loaded->get_int64() : 0;
  show(stdout, "%s: %s, %s\n", text(*o, "model").c_str(), change.c_str(), text(*o, "applies").c_str());
  if (workers > 0)
    show(stdout, "It is loaded now: `llorch model unload %s` stops its worker%s.\n", text(*o, "model").c_str(),
         workers > 1 ? "s" : "");
  return 0;
}

std::shared_ptr<Flags> add(CLI::App& model, const char* name, const char* help, CLI::App*& made) {
  const auto f = std::make_shared<Flags>();
  made = command(model, name, help, std::shared_ptr<Common>(f, &f->common));
  made->add_option("model", f->model, "a model or an alias; org/repo: all of its files")->required();
  return f;
}

/// For --help.
std::string keys_text() {
  std::string out = "KEY and what it takes:";
  for (const auto& v : colony::ModelSettings::description()) {
    const auto& o = v.as_object();
    out += fmt::format("\n  {:19} {}: {}", text(o, "key"), text(o, "about"), text(o, "takes"));
  }
  return out;
}

}  // namespace

void add_model_settings(CLI::App& model, int& exit_code) {
  CLI::App* c = nullptr;
  const auto set = add(model, "set", "how a model is served, from its next load on", c);
  c->add_option("key", set->key, "ctx, threads, kv-type, ...: see below")->required();
  c->add_option("value", set->value)->required();
  c->footer(keys_text());
  c->callback([set, &exit_code] {
    std::string hint;
    const auto answer = ask(*set, "PUT", {{set->key, set->value}}, hint);
    exit_code = report(*set, answer, hint, fmt::format("{} = {}", set->key, set->value));
  });
  const auto unset = add(model, "unset", "takes a setting of a model back", c);
  c->add_option("key", unset->key, "ctx, threads, kv-type, ...: those of `llorch model set --help`")->required();
  c->callback([unset, &exit_code] {
    std::string hint;
    const auto answer = ask(*unset, "PUT", {{unset->key, nullptr}}, hint);
    exit_code = report(*unset, answer, hint, unset->key + " is not set any more");
  });
  const auto shown = add(model, "show", "what is set for a model, and by whom", c);
  c->footer(keys_text());
  c->callback([shown, &exit_code] {
    std::string hint;
    const auto answer = ask(*shown, "GET", nullptr, hint);
    exit_code = report(*shown, answer, hint, "");
  });
}

}  // namespace llorch::keeper
