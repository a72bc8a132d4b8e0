// What the hive says of itself and its machine: /health, /v1/info, /v1/capabilities, /v1/memory-check, telemetry,
// metrics.

#include "base/integer.h"
#include "colony/model_access.h"
#include "hive/hive.h"
#include "hive/memory_fit.h"

namespace llorch::hive {
namespace {

using service::ContextPtr;
using service::Scope;

std::optional<std::int64_t> parameter(const ContextPtr& c, std::string_view name, std::int64_t otherwise,
                                      std::int64_t low, std::int64_t high) {
  const auto text = c->request.target.parameter(name);
  if (!text) return otherwise;
  if (const auto v = parse_integer(*text, low, high)) return v;
  c->fail({ErrorCode::kInvalidRequest, fmt::format("{} must be a whole number from {} to {}", name, low, high)}, {},
          name);
  return std::nullopt;
}

/// Whoever may not administer the hive learns whether the model fits, and nothing of what others hold.
void tell_fit(Hive& h, const ContextPtr& c, const std::string& device, const Need& n) {
  const Status room = h.check_room(device, n.total_on(device));
  if (room) return c->reply({204, "application/json", "", {}});
  if (!c->principal.may(Scope::kAdmin)) return c->fail({room.error().code, "there is no room for the model now"});
  c->fail(room.error(), {{"weights_bytes", n.weights},
                         {"kv_bytes", n.kv},
                         {"scratch_bytes", n.scratch},
                         {"needed_bytes", n.total_on(device)},
                         {"context", n.context},
                         {"parallel", n.parallel},
                         {"room_bytes", h.room(device).value_or(0)},
                         {"capacity_bytes", h.room(device, true).value_or(0)}});
}

service::Procedure answer_fit(service::FlowPtr flow, Hive& h, ContextPtr c, std::string device, Need need) {
  while (h.room_is_old(device)) {
    const auto changed = co_await h.changed().wait(flow, std::chrono::seconds(1));
    if (!changed) co_return c->fail(changed.error());
  }
  tell_fit(h, c, device, need);
}

/// 204 when a worker for the model would have room, else why not (H-12).
void memory_check(Hive& h, const ContextPtr& c) {
  const auto ref = colony::parse_model_ref(c->request.target.parameter("model").value_or(""));
  if (!ref) return c->fail(ref.error(), {}, "model");
  const auto context = parameter(c, "ctx", 0, 0, 1 << 24);
  if (!context) return;
  const auto parallel = parameter(c, "parallel", 8, 1, 1024);
  if (!parallel) return;
  const std::string kv = c->request.target.parameter("kv").value_or("f16");
  if (kv != "f32" && kv != "f16" && kv != "q8_0")
    return c->fail({ErrorCode::kInvalidRequest, "kv must be f32, f16 or q8_0"}, {}, "kv");
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
  const auto need = std::make_shared<Result<Need>>();
  auto measure = [need, location = *location, context = *context, parallel = *parallel, kv = kv_precision(kv)] {
    *need = memory_need(location, context, parallel, kv);
  };
  auto answer = [&h, c, need, device](const Status& done) {
    if (!done) return c->fail(done.error());
    if (!*need) return c->fail(need->error());
    answer_fit(h.gate().flow(), h, c, device, **need);
  };
  h.files().run({std::move(measure), std::move(answer), *location, nullptr});
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
