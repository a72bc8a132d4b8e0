// What the hive says of itself and its machine: /health, /v1/info, /v1/capabilities, /v1/memory-check, telemetry,
// metrics.

#include "colony/model_access.h"
#include "colony/operations.h"
#include "config_file.h"
#include "hive/hive.h"
#include "hive/memory_fit.h"

namespace llorch::hive {
namespace {

using service::ContextPtr;
using service::Scope;

/// Whoever may not administer the hive learns whether the model fits, and nothing of what others hold.
void tell_fit(Hive& h, const ContextPtr& c, const Need& n) {
  const std::string& device = n.device;
  const Status room = has_room(h, n);
  if (room) return c->reply({204, "application/json", "", {}});
  if (!c->principal.may(Scope::kAdmin)) return c->fail({room.error().code, "there is no room for the model now"});
  c->fail(room.error(), {{"weights_bytes", n.weights},
                         {"kv_bytes", n.kv},
                         {"scratch_bytes", n.scratch},
                         {"needed_bytes", n.total()},
                         {"context", n.context},
                         {"parallel", n.parallel},
                         {"room_bytes", h.room(device).value_or(0)},
                         {"capacity_bytes", h.room(device, true).value_or(0)}});
}

/// How a worker would run.
struct FitQuestion {
  std::string location, device;
  colony::ModelSettings settings;
};

service::Procedure answer_fit(service::FlowPtr flow, Hive& h, ContextPtr c, FitQuestion q) {
  while (h.room_is_old(q.device)) {
    const auto changed = co_await h.changed().wait(flow, std::chrono::seconds(1));
    if (!changed) co_return c->fail(changed.error());
  }
  auto measure = [q, room = h.room(q.device)] {
    RunSize size(q.settings, WorkerDefaults::read(cli::colony_config_path()));
    size.device = q.device, size.room = room;
    return memory_need(q.location, size);
  };
  const auto need = co_await service::in_background(flow, h.files(), measure, q.location);
  if (!need) co_return c->fail(need.error());
  if (!*need) co_return c->fail(need->error());
  tell_fit(h, c, **need);
}

/// What the parameters say. Nothing: it was answered.
std::optional<colony::ModelSettings> settings_of(const ContextPtr& c) {
  colony::ModelSettings settings;
  for (const auto& [parameter, key] : colony::kMemoryParameters) {
    const std::string value = c->request.target.parameter(parameter).value_or("");
    if (value.empty() || (value == "0" && std::string_view(parameter) == "ctx")) continue;  // 0: what the model has
    if (const Status set = settings.set(key, value); !set) return c->fail(set.error(), {}, parameter), std::nullopt;
  }
  return settings;
}

/// 204 when a worker for the model would have room, else why not (H-12).
void memory_check(Hive& h, const ContextPtr& c) {
  const auto ref = colony::parse_model_ref(c->request.target.parameter("model").value_or(""));
  if (!ref) return c->fail(ref.error(), {}, "model");
  auto settings = settings_of(c);
  if (!settings) return;
  const auto named = colony::parse_device(c->request.target.parameter("device").value_or("cpu"));
  if (!named) return c->fail(named.error(), {}, "device");
  const std::string device = h.one_device(*named);
  if (const Status usable = h.check_device(device); !usable) return c->fail(usable.error(), {}, "device");
  const bool admin = c->principal.may(Scope::kAdmin);
  const auto allow = c->request.target.parameter("allow");
  const auto asked = allow ? colony::parse_model_access(*allow) : colony::ModelAccess::all();
  if (!asked) return c->fail(asked.error(), {}, "allow");
  const auto access = admin ? *asked : colony::ModelAccess();
  if (!access.allows(*ref, h.knows(*ref))) return c->fail(colony::no_such_model(), {}, "model");
  const auto location = h.location_of(*ref);
  if (!location) return c->fail(location.error(), {}, "model");
  FitQuestion question{*location, device, *std::move(settings)};
  answer_fit(h.gate().flow(), h, c, std::move(question));
}

/// The progress of a transfer, for whoever asks beside its jobs (H-21).
void download_progress(Hive& h, const ContextPtr& c) {
  const auto ref = colony::parse_model_ref(c->request.target.parameter("id").value_or(""));
  if (!ref) return c->fail(ref.error(), {}, "id");
  const auto transfer = h.transfers().find(*ref);
  if (!transfer) return c->fail({ErrorCode::kModelNotFound, "no such model is being fetched"}, {}, "id");
  transfer->watchers.join(c);
  // The listener holds the transfer, whose list of listeners it leaves in the end.
  c->exchange->on_gone = [transfer, left = std::move(c->exchange->on_gone)] {
    if (left) left();
  };
}

}  // namespace

void add_route_status(Hive& h) {
  auto& r = h.front().router();
  r.route<Scope::kPublic>("GET", "/health", [](const ContextPtr& c) { c->reply(200, {{"status", "healthy"}}); });
  r.route<Scope::kInfer>("GET", "/v1/info", [&h](const ContextPtr& c) {
    c->reply(200, {{"id", h.options().hive_id},
                   {"hostname", h.options().hive_id},
                   {"port", h.front().port()},
                   {"operational_status", h.stopping() ? "stopping" : "ready"},
                   {"health_status", "healthy"},
                   {"version", LLORCH_VERSION}});
  });
  r.route<Scope::kInfer>("GET", "/v1/capabilities",
                         [&h](const ContextPtr& c) { c->reply(200, colony::to_json(h.capabilities())); });
  r.route<Scope::kInfer>("GET", "/v1/memory-check", [&h](const ContextPtr& c) { memory_check(h, c); });
  r.route<Scope::kInfer>("GET", "/v1/models/download/progress", [&h](const ContextPtr& c) { download_progress(h, c); });
  r.route<Scope::kInfer>(
      "GET", "/v1/heartbeats/stream", [&h](const ContextPtr& c) { h.telemetry().join(c); }, service::Answers::kStream);
  r.route<Scope::kMetrics>("GET", "/metrics", [&h](const ContextPtr& c) {
    c->reply({200, "text/plain; version=0.0.4", h.metrics_text(), {}});
  });
  r.route<Scope::kAdmin>("POST", "/v1/shutdown", [&h](const ContextPtr& c) {
    c->reply(202, {{"status", "shutting down"}});
    h.shutdown("asked over HTTP");
  });
}

}  // namespace llorch::hive
