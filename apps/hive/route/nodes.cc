// From workers: heartbeats and the call that they are ready (W-30, W-31).
#include "hive/hive.h"
#include "wire/fields.h"

namespace llorch::hive {

void add_route_nodes(Hive& h) {
  const auto take = [&h](const service::ContextPtr& c) {
    const auto body = wire::parse_body(c->request.body);
    if (!body) return c->fail(body.error());
    if (const Status s = h.worker_beat(*body); !s) return c->fail(s.error());
    c->reply(200, {{"status", "ok"}});
  };
  h.front().router().route<service::Scope::kNode>("POST", "/v1/heartbeat", take);
  h.front().router().route<service::Scope::kNode>("POST", "/v1/workers/ready", take);
}

}  // namespace llorch::hive
