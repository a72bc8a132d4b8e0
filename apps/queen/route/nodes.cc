// From hives: heartbeats, and workers that failed (H-02, Q-12).
#include <algorithm>

#include "colony/address.h"
#include "queen/queen.h"
#include "security/validate.h"
#include "wire/fields.h"

namespace llorch::queen {
namespace {

Membership::Speaker speaker(const service::Context& c) {
  return {c.principal, c.request.headers.get("Authorization").value_or("")};
}

/// {hive_id, token, url?} with a join token: {node_token} comes back, once the hive is on disk.
void join(Queen& q, const service::ContextPtr& c) {
  const auto body = wire::parse_body(c->request.body);
  if (!body) return c->fail(body.error());
  wire::Fields f(*body);
  const auto id = f.text("hive_id", 64), token = f.text("token", 1024), url = f.text("url", 1024);
  if (url && !net::parse_url(*url))
    return c->fail({ErrorCode::kInvalidRequest, "url must be http://host[:port]"}, {}, "url");
  if (!id || security::check_identifier(*id, 64) || !token || token->size() < security::kTokenBytesMin)
    return c->fail({ErrorCode::kInvalidRequest, "hive_id and token are required"}, {}, "hive_id");
  const auto alive = q.hives().online();
  if (std::ranges::any_of(alive, [&](const HiveEntry* h) { return h->id == *id; }))
    return c->fail({ErrorCode::kResourceInUse, "a hive of this name is alive"});
  const auto joined = q.members().join(c->principal, *id, *token, net::Clock::now());
  if (!joined) return c->fail(joined.error());
  HiveRow& row = q.catalog().hives[*id];
  row.id = *id, row.node_key = joined->node_key, row.joined_host.clear();
  if (url && !colony::is_any_address(net::parse_url(*url)->host)) row.joined_host = net::parse_url(*url)->host;
  const auto saved = std::make_shared<Status>();
  q.background().run(
      [&q, saved, row, token = *token] {
        *saved = q.members().save(row.id, token);
        if (*saved) *saved = q.catalog().save_joined(row);
      },
      [c, saved, node_token = joined->node_token](const Status& done) {
        if (!done) return c->fail(done.error());
        if (!*saved) return c->fail(saved->error());
        c->reply(200, {{"node_token", node_token}});
      });
}

Status take_beat(Queen& q, const service::Context& c, colony::HiveBeat beat) {
  const auto by = speaker(c);
  LLORCH_OK(q.members().check_speaker(by, beat.hive_id));
  LLORCH_TRY(std::string token, q.members().token_for(by, beat.hive_id));
  const auto row = q.catalog().hives.find(beat.hive_id);
  LLORCH_OK(colony::settle_addresses(
      beat, {c.request.peer, c.request.local, row == q.catalog().hives.end() ? "" : row->second.joined_host}));
  return q.hive_beat(std::move(beat), std::move(token));
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
    if (const Status s = take_beat(q, *c, *std::move(read)); !s) return c->fail(s.error());
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
    std::string hive = f.text("hive_id", 64).value_or("");
    if (hive.empty()) hive = q.members().hive_of(c->principal);
    if (const Status may = q.members().check_speaker(speaker(*c), hive); !may) return c->fail(may.error());
    q.forget_worker(hive, *id);
    c->reply(200, {{"status", "ok"}});
  });
  // How a hive that does not know the colony's token becomes one of it.
  r.route<Scope::kAdmin>("POST", "/v1/join-tokens", [&q](const ContextPtr& c) {
    if (!q.front().has_token())
      return c->fail({ErrorCode::kInvalidRequest, "a queen without a token serves her own machine only"});
    const auto token = q.members().make_join_token(net::Clock::now());
    if (!token) return c->fail(token.error());
    c->reply(200, {{"token", *token}, {"expires_in_s", 600}});
  });
  r.route<Scope::kNode>("POST", "/v1/hive/join", [&q](const ContextPtr& c) { join(q, c); });
  r.route<Scope::kAdmin>("DELETE", "/v1/hives/{}", [&q](const ContextPtr& c) {
    const std::string& id = c->parameters[0];
    if (!q.catalog().hives.contains(id) && !q.hives().find(id))
      return c->fail({ErrorCode::kHiveNotFound, "there is no hive of that name"});
    q.forget_hive(id);
    c->reply(200, {{"hive_id", id}, {"status", "removed"}});
  });
}

}  // namespace llorch::queen
