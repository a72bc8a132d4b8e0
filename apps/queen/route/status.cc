// What the queen says of the colony: /health, /v1/info, /v1/status, the live stream, metrics.
#include "queen/queen.h"

namespace llorch::queen {
void add_route_status(Queen& q) {
  using service::ContextPtr;
  using service::Scope;
  auto& r = q.front().router();
  r.route<Scope::kPublic>("GET", "/health", [](const ContextPtr& c) { c->reply(200, {{"status", "healthy"}}); });
  r.route<Scope::kInfer>("GET", "/v1/info", [&q](const ContextPtr& c) {
    c->reply(200, {{"base_url", q.front().url()},
                   {"port", q.front().port()},
                   {"version", LLORCH_VERSION},
                   {"features", {"infer", "openai", "hives"}},
                   {"ends_when_unused", q.ends_when_unused()},
                   {"build_timestamp", nullptr}});
  });
  r.route<Scope::kInfer>("GET", "/v1/status", [&q](const ContextPtr& c) {
    q.looked();
    boost::json::object o = overview(q);
    o["may_administer"] = c->principal.may(Scope::kAdmin);  // whoever asks
    c->reply(200, o);
  });
  r.route<Scope::kInfer>(
      "GET", "/v1/heartbeats/stream", [&q](const ContextPtr& c) { q.broadcast().join(c); }, service::Answers::kStream);
  r.route<Scope::kMetrics>("GET", "/metrics", [&q](const ContextPtr& c) {
    c->reply({200, "text/plain; version=0.0.4", q.metrics_text(), {}});
  });
  r.route<Scope::kAdmin>("POST", "/v1/stay", [&q](const ContextPtr& c) {
    if (q.stopping()) return c->fail({ErrorCode::kShuttingDown, "the queen is shutting down"});
    q.stay();
    c->reply(200, {{"status", "stays"}});
  });
  r.route<Scope::kAdmin>("POST", "/v1/shutdown", [&q](const ContextPtr& c) {
    c->reply(202, {{"status", "shutting down"}});
    q.shutdown("asked over HTTP", c->request.target.parameter("all").value_or("") == "1");
  });
}

}  // namespace llorch::queen
