// How models are served, for an administrator and the page: what is in force for a model, who says so, and the change
// of it. What is changed here is kept over restarts and comes before the configuration file.
#include "queen/queen.h"
#include "wire/fields.h"

namespace llorch::queen {
namespace {

using service::ContextPtr;

constexpr const char* kWhen = "at the next load of the model: workers that run keep what they have";

/// {model, settings: {KEY: {value, from, file?}}, loaded, applies}
boost::json::object settings_json(const Queen& q, const colony::ModelRef& ref) {
  const SettingsTable& table = q.placer().settings();
  const colony::ModelSettings file = table.in_file(ref), all = table.of(ref), own = table.kept(ref);
  boost::json::object settings;
  for (const auto& [key, value] : all.all()) {
    const std::string in_file = file.text(key);
    const bool kept = !own.text(key).empty();
    boost::json::object o{{"value", value}, {"from", kept ? "set" : in_file == value ? "file" : "repository"}};
    if (!in_file.empty() && in_file != value) o["file"] = in_file;
    settings[key] = std::move(o);
  }
  std::int64_t loaded = 0;
  for (const HiveEntry* h : q.hives().online())
    loaded += std::ranges::count(h->workers, ref.text(), &colony::WorkerFacts::model_ref);
  return {{"model", ref.text()}, {"settings", std::move(settings)}, {"loaded", loaded}, {"applies", kWhen}};
}

void list_settings(Queen& q, const ContextPtr& c) {
  boost::json::array models;
  for (const std::string& text : q.placer().settings().models())
    if (const auto ref = colony::parse_model_ref(text)) models.push_back(settings_json(q, *ref));
  c->reply(200, {{"keys", colony::ModelSettings::description()}, {"models", std::move(models)}});
}

/// A number, a text or null (it is taken back) of each key. Errors: kInvalidRequest, with the key in `field`.
Status change_settings(colony::ModelSettings& settings, const boost::json::object& body, std::string& field) {
  for (const auto& [name, value] : body) {
    field = name;
    const std::string text = value.is_string()   ? std::string(value.get_string())
                             : value.is_int64()  ? std::to_string(value.get_int64())
                             : value.is_double() ? fmt::format("{}", value.get_double())
                                                 : "";
    if (value.is_null())
      LLORCH_OK(settings.unset(name));
    else if (value.is_string() || value.is_int64() || value.is_double())
      LLORCH_OK(settings.set(name, text));
    else
      return fail(ErrorCode::kInvalidRequest, "'{}' must be a text, a number or null", name);
  }
  return {};
}

/// They are in force at once, so that whoever changes them next sees them; the answer comes when they are kept. What
/// cannot be kept is taken back, unless another change came meanwhile.
void keep_settings(Queen& q, const ContextPtr& c, const colony::ModelRef& ref, const colony::ModelSettings& settings) {
  const colony::ModelSettings before = q.placer().settings().kept(ref);
  q.placer().settings().keep(ref, settings);
  const auto kept = std::make_shared<Status>();
  q.background().run([&q, kept, ref = ref.text(), settings] { *kept = q.catalog().save_settings(ref, settings); },
                     [&q, c, kept, ref, settings, before](const Status& done) {
                       const Status& outcome = done ? *kept : done;
                       if (outcome) return c->reply(200, settings_json(q, ref));
                       SettingsTable& table = q.placer().settings();
                       if (table.kept(ref) == settings) table.keep(ref, before);
                       c->fail(outcome.error());
                     });
}

/// The same where other queens have them too, who may change them at the same time. `field`: what is at fault.
void share_settings(Queen& q, const ContextPtr& c, const colony::ModelRef& ref,
                    std::function<Status(colony::ModelSettings&, std::string& field)> change) {
  const auto field = std::make_shared<std::string>();
  q.sharing()->change_settings(
      ref.text(), [change = std::move(change), field](colony::ModelSettings& s) { return change(s, *field); },
      [&q, c, ref, field](const Status& kept) {
        if (!kept) return c->fail(kept.error(), {}, *field);
        c->reply(200, settings_json(q, ref));
      });
}

using Change = void (*)(Queen& q, const ContextPtr& c, const colony::ModelRef& ref);

void show_settings(Queen& q, const ContextPtr& c, const colony::ModelRef& ref) { c->reply(200, settings_json(q, ref)); }

void set_settings(Queen& q, const ContextPtr& c, const colony::ModelRef& ref) {
  const auto body = wire::parse_body(c->request.body);
  if (!body) return c->fail(body.error());
  if (q.sharing())
    return share_settings(q, c, ref, [body = *body](colony::ModelSettings& settings, std::string& field) {
      return change_settings(settings, body, field);
    });
  colony::ModelSettings settings = q.placer().settings().kept(ref);
  std::string field;
  if (const Status changed = change_settings(settings, *body, field); !changed)
    return c->fail(changed.error(), {}, field);
  keep_settings(q, c, ref, settings);
}

void clear_settings(Queen& q, const ContextPtr& c, const colony::ModelRef& ref) {
  if (!q.sharing()) return keep_settings(q, c, ref, {});
  share_settings(q, c, ref, [](colony::ModelSettings& settings, std::string&) -> Status {
    settings = {};
    return {};
  });
}

service::Handler of_model(Queen& q, Change change) {
  return [&q, change](const ContextPtr& c) {
    const auto model = q.resolve(c->parameters[0], c->principal);
    if (!model) return c->fail(model.error(), {}, "model");
    change(q, c, model->ref);
  };
}

}  // namespace

void add_route_model_settings(Queen& q) {
  using service::Bodies;
  using service::Scope;
  auto& r = q.front().router();
  r.route<Scope::kAdmin>("GET", "/v1/model-settings", [&q](const ContextPtr& c) { list_settings(q, c); });
  r.route<Scope::kAdmin>("GET", "/v1/model-settings/{*}", of_model(q, show_settings));
  r.route<Scope::kAdmin>("PUT", "/v1/model-settings/{*}", of_model(q, set_settings), Bodies::kSmall);
  r.route<Scope::kAdmin>("DELETE", "/v1/model-settings/{*}", of_model(q, clear_settings));
}

}  // namespace llorch::queen
