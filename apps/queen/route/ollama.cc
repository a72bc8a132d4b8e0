// What of Ollama's API the queen answers herself: /api/tags, /api/ps, /api/show, /api/pull, /api/version. Questions to
// models go to their workers (openai.cc).
//
// Source: Ollama's public API documentation (docs/api.md of its repository), as of version 0.12.
#include "base/ids.h"
#include "base/split_name.h"
#include "format/json.h"
#include "queen/queen.h"
#include "service/background.h"
#include "service/remote.h"
#include "wire/error_body.h"
#include "wire/fields.h"
#include "wire/ollama_api.h"

namespace llorch::queen {
namespace {

using service::ContextPtr;
using service::FlowPtr;
using service::Procedure;

constexpr std::string_view kFilePrefix = "file:";
using Sizes = std::map<std::string, std::int64_t, std::less<>>;  // by reference, in bytes

/// Files that have a name here and are in no catalog. Their sizes are still to be found.
Sizes named_files(const boost::json::array& models) {
  Sizes out;
  for (const auto& m : models)
    if (const std::string_view id = m.at("id").get_string();
        id.starts_with(kFilePrefix) && !m.at("meta").as_object().contains("size_bytes"))
      out.emplace(id, 0);
  return out;
}

/// Each model by its reference, and by every name that it was given. Listed are those that are here; a file is here
/// where a person has named it. Sizes are those of files: 0 for a named one that another machine has.
boost::json::object tags(const boost::json::array& models, const Sizes& files) {
  boost::json::array list;
  for (const auto& m : models) {
    const auto& facts = m.at("meta").as_object();
    const std::string ref(m.at("id").get_string());
    const auto file = files.find(ref);
    if (json::find_text(facts, "state") == "not_downloaded" && file == files.end()) continue;
    const std::int64_t size = file != files.end()
                                  ? file->second
                                  : static_cast<std::int64_t>(json::find_unsigned(facts, "size_bytes").value_or(0));
    const auto add = [&](const std::string& name) {
      boost::json::object o = wire::ollama_model(name, size, json::find_text(facts, "quant").value_or(""));
      o["modified_at"] = rfc3339(std::chrono::system_clock::now());
      list.push_back(std::move(o));
    };
    add(ref);
    for (const auto& name : m.at("aliases").as_array()) add(std::string(name.as_string()));
  }
  return {{"models", std::move(list)}};
}

/// An answer that waits for sizes of files.
struct Listing {
  boost::json::array models;
  Sizes files;
  std::size_t left = 0;  // files that are looked up
  bool told = false;
  service::Cancellation ended = service::make_cancellation();
  net::EventLoop::Timer limit;
};

/// A file system may hang: what has no size after a second is listed without.
void reply_tags(Queen& q, const ContextPtr& c) {
  const auto listing = std::make_shared<Listing>();
  listing->models = models(q), listing->files = named_files(listing->models);
  listing->left = listing->files.size();
  const auto tell = [c, listing] {
    if (std::exchange(listing->told, true)) return;
    listing->limit.cancel();
    c->reply(200, tags(listing->models, listing->files));
  };
  if (listing->files.empty()) return tell();
  constexpr std::chrono::seconds kSizesTime{1};
  listing->limit = q.loop().after(kSizesTime, [&q, listing, tell] {
    const auto held = tell;  // telling ends this timer
    q.files().cancel(listing->ended);
    held();
  });
  for (const auto& [ref, unknown] : Sizes(listing->files)) {
    const auto size = std::make_shared<std::int64_t>(0);
    const std::string path = ref.substr(kFilePrefix.size());
    q.files().run({[path, size] { *size = size_of_parts(path).value_or(0); },
                   [listing, tell, size, ref](const Status& looked) {
                     if (looked) listing->files[ref] = *size;
                     if (--listing->left == 0) tell();
                   },
                   path, listing->ended});
  }
}

/// Until a worker is stopped because nobody asks it; a century stands for never.
std::chrono::seconds time_left(const Queen& q, const colony::WorkerFacts& w) {
  constexpr std::chrono::hours kNever{24 * 365 * 100};
  const auto* sleeps = w.figures.if_contains("sleeps_in_s");
  if (!sleeps || !sleeps->is_number() || w.state == "busy" || q.placer().pinned().contains(w.model_ref)) return kNever;
  return std::chrono::seconds(static_cast<std::int64_t>(sleeps->to_number<double>()));
}

boost::json::object running(const Queen& q) {
  boost::json::array list;
  for (const HiveEntry* h : q.hives().online())
    for (const auto& w : h->workers) {
      if (w.state != "ready" && w.state != "busy") continue;
      boost::json::object o = wire::ollama_model(w.model_ref, w.memory_bytes.value_or(0), w.quant);
      o["size_vram"] = colony::is_gpu(w.device) ? w.memory_bytes.value_or(0) : 0;
      o["expires_at"] = rfc3339(std::chrono::system_clock::now() + time_left(q, w));
      const auto* context = w.figures.if_contains("context");
      if (context && context->is_number()) o["context_length"] = *context;
      list.push_back(std::move(o));
    }
  return {{"models", std::move(list)}};
}

/// The model that a body names as `model`, or as `name` in older clients. Errors: kInvalidRequest, kModelNotFound.
Result<ResolvedModel> model_of(const Queen& q, const ContextPtr& c, const boost::json::object& body) {
  auto name = json::find_text(body, "model");
  if (!name) name = json::find_text(body, "name");
  if (!name) return fail(ErrorCode::kInvalidRequest, "model is required");
  return q.resolve(std::string(wire::untagged(*name)), c->principal);
}

void show(const Queen& q, const ContextPtr& c) {
  const auto body = wire::parse_body(c->request.body);
  if (!body) return c->fail(body.error());
  const auto model = model_of(q, c, *body);
  if (!model) return c->fail(model.error());
  const std::string ref = model->ref.text();
  constexpr std::string_view kArchitecture = "llorch";
  std::string quant;
  boost::json::object info{{"general.basename", ref}};
  boost::json::array abilities{"completion"};  // of a model that no worker has loaded, more is not known
  for (const HiveEntry* h : q.hives().online()) {
    for (const auto& m : h->capabilities.models)
      if (m.ref == ref) quant = m.quant;
    for (const auto& w : h->workers)
      if (w.model_ref == ref) {
        if (quant.empty()) quant = w.quant;
        if (w.figures.contains("context")) {
          // Front ends look for the length under the name of the architecture, which a queen does not know.
          info["general.architecture"] = kArchitecture;
          info[fmt::format("{}.context_length", kArchitecture)] = w.figures.at("context");
          info["general.context_length"] = w.figures.at("context");
        }
        if (!w.capabilities.empty()) abilities = wire::ollama_capabilities(w.capabilities);
      }
  }
  c->reply(200, {{"modelfile", "FROM " + ref},
                 {"parameters", ""},
                 {"template", ""},
                 {"license", ""},
                 {"details", wire::ollama_details(quant)},
                 {"model_info", std::move(info)},
                 {"modified_at", rfc3339(std::chrono::system_clock::now())},
                 {"capabilities", std::move(abilities)}});
}

void write_line(const ContextPtr& c, const boost::json::object& line) {
  if (c->exchange->alive()) c->exchange->write(boost::json::serialize(line) + "\n");
}

/// Has a hive fetch a model, and tells how far it is.
Procedure pull(FlowPtr flow, Queen& q, ContextPtr c, std::string ref, bool stream) {
  if (q.own_hive_is_meant("")) {
    const auto placing = std::make_shared<Placement>();
    placing->wanted.hive = q.local_hive().id(), placing->correlation_id = c->correlation_id;
    placing->report = [](std::string_view, const std::string&) {};
    placing->relay = [](std::string_view, const boost::json::object&) {};
    auto starting = q.placer().bring_up_hive(flow, placing);
    const auto started = co_await starting;
    if (!started) co_return c->fail(started.error());
  }
  const auto hive = q.find_hive("");
  if (!hive) co_return c->fail(hive.error());
  if (stream) {
    net::Response head;
    head.content_type = "application/x-ndjson";
    c->decorate(head.headers);
    c->exchange->start(std::move(head));
    c->streamed(200);
    write_line(c, {{"status", "pulling manifest"}});
  }
  const auto relay = std::make_shared<Relay>([c, stream, ref](std::string_view type, const boost::json::object& data) {
    if (!stream || type != "progress" || json::find_text(data, "stage") != "downloading") return;
    write_line(c, {{"status", "pulling " + ref},
                   {"digest", ref},
                   {"total", data.at("bytes_total")},
                   {"completed", data.at("bytes_downloaded")}});
  });
  const std::string id = (*hive)->id;
  boost::json::object order{{"operation", "model_download"}, {"model", ref}};
  auto step = q.calls().run(flow, id, std::move(order), relay, c->correlation_id);
  const auto fetched = co_await step;
  if (!c->exchange->alive()) co_return;
  if (!stream && !fetched) co_return c->fail(fetched.error());
  if (!stream) co_return c->reply(200, {{"status", "success"}});
  write_line(
      c, fetched ? boost::json::object{{"status", "success"}} : wire::error_event_of("api/pull", fetched.error(), 0));
  c->exchange->finish();
}

void begin_pull(Queen& q, const ContextPtr& c) {
  const auto body = wire::parse_body(c->request.body);
  if (!body) return c->fail(body.error());
  const auto model = model_of(q, c, *body);
  if (!model) return c->fail(model.error());
  const auto flow = q.gate().flow();
  c->exchange->on_gone = [flow] { flow->cancel({ErrorCode::kCancelled, "the client has left"}); };
  pull(flow, q, c, model->ref.text(), json::find_bool(*body, "stream").value_or(true));
}

}  // namespace

void add_route_ollama(Queen& q) {
  using service::Scope;
  auto& r = q.front().router();
  r.route<Scope::kInfer>("GET", "/api/version", [](const ContextPtr& c) {
    c->reply(200, {{"version", wire::kOllamaVersion}});
  });
  r.route<Scope::kInfer>("GET", "/api/tags", [&q](const ContextPtr& c) { reply_tags(q, c); });
  r.route<Scope::kInfer>("GET", "/api/ps", [&q](const ContextPtr& c) { c->reply(200, running(q)); });
  r.route<Scope::kInfer>(
      "POST", "/api/show", [&q](const ContextPtr& c) { show(q, c); }, service::Bodies::kSmall);
  r.route<Scope::kAdmin>(
      "POST", "/api/pull", [&q](const ContextPtr& c) { begin_pull(q, c); }, service::Bodies::kSmall);
}

}  // namespace llorch::queen
