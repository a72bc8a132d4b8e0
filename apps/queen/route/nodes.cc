// From hives: heartbeats, and workers that failed (H-02, Q-12).
#include "queen/queen.h"
#include "wire/fields.h"

namespace llorch::queen {
namespace {

/// A daemon that listens everywhere does not know its own address; the one it calls from is right.
void put_address(std::string& url, const std::string& peer) {
  for (const std::string any : {"://0.0.0.0:", "://[::]:"})
    if (const std::size_t at = url.find(any); at != std::string::npos)
      url.replace(at, any.size(), "://" + (peer.contains(':') ? "[" + peer + "]" : peer) + ":");
}

}  // namespace

void add_route_nodes(Queen& q) {
  using service::ContextPtr;
  using service::Scope;
  const auto beat = [&q](const ContextPtr& c) {
    if (q.stopping()) return c->fail({ErrorCode::kShuttingDown, "the queen is shutting down"});
    const auto body = wire::parse_body(c->request.body);
    if (!body) return c->fail(body.error());
    auto read = colony::read_beat(*body);
    if (!read) return c->fail(read.error());
    put_address(read->url, c->request.peer);
    for (auto& w : read->workers) put_address(w.uri, c->request.peer);
    if (const Status s = q.hive_beat(*std::move(read)); !s) return c->fail(s.error());
    c->reply(200, {{"status", "ok"}, {"message", "heard"}});
  };
  auto& r = q.front().router();
  r.route<Scope::kNode>("POST", "/v1/heartbeat", beat);
  r.route<Scope::kNode>("POST", "/v1/hive/ready", [](const ContextPtr& c) {
    c->reply(200, {{"status", "ok"}, {"message", "send a heartbeat"}});
  });
  r.route<Scope::kNode>("POST", "/v1/workers/failed", [&q](const ContextPtr& c) {
    const auto body = wire::parse_body(c->request.body);
    if (!body) return c->fail(body.error());
    wire::Fields f(*body);
    const auto id = f.text("worker_id", 64);
    if (!id) return c->fail({ErrorCode::kInvalidRequest, "worker_id is required"}, {}, "worker_id");
    q.forget_worker(*id);
    c->reply(200, {{"status", "ok"}});
  });
}

}  // namespace llorch::queen
