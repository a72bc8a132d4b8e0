// From hives: heartbeats, and workers that failed (H-02, Q-12).
#include <algorithm>

#include "colony/address.h"
#include "queen/queen.h"
#include "security/validate.h"
#include "service/log.h"
#include "wire/fields.h"

namespace llorch::queen {
namespace {

Membership::Speaker speaker(const service::Context& c) {
  return {c.principal, c.request.headers.get("Authorization").value_or("")};
}

colony::Origin origin_of(const service::Context& c, std::string joined = "") {
  return {c.request.peer, c.request.local, std::move(joined)};
}

/// A hive that has joined shows its certificate besides its key, wherever it calls from. Errors: kForbidden.
Status check_certificate(Queen& q, const service::Context& c, const std::string& hive_id) {
  if (!q.tls().opened() || !q.members().has_joined(c.principal)) return {};
  if (!c.request.certificate)
    return fail(ErrorCode::kForbidden, "the hive {} shows no certificate of this colony", hive_id);
  return q.tls().check(*c.request.certificate, hive_id);
}

/// What a hive's certificate names besides its name in the colony: the address that it calls from, and nothing that
/// anybody could only claim. Never an address by which people reach the queen: whoever joined may have come through a
/// forwarder on her machine, and would be believed in her place. Loopback means each machine itself.
std::vector<std::string> hosts_of(Queen& q, const service::Context& c) {
  const std::string peer = colony::normal_host(c.request.peer);
  if (peer.contains('%')) return {};  // link-local: no certificate has zones
  const bool joining = q.members().has_joined(c.principal) || q.members().is_joining(c.principal);
  if (joining && colony::is_from_here(origin_of(c)) && !security::is_loopback(peer)) return {};
  return {peer};
}

/// Signs a hive's request, where the colony has an authority, and answers with what else the hive gets.
void answer_signed(Queen& q, const service::ContextPtr& c, const std::string& hive_id,
                   std::optional<std::string> request, boost::json::object answer) {
  if (!q.tls().opened()) return c->reply(200, answer);
  q.tls().sign(request.value_or(""), hive_id, hosts_of(q, *c),
               [&q, c, hive_id, answer = std::move(answer)](Result<std::string> chain) mutable {
                 // It may have been revoked while this one was made, which would outlive that.
                 if (const Status still = check_certificate(q, *c, hive_id); !still) return c->fail(still.error());
                 if (!chain) return c->fail(chain.error(), {}, "certificate_request");
                 answer["certificate"] = *chain, answer["root"] = q.tls().authority().root();
                 c->reply(200, answer);
               });
}

struct JoinRequest {
  std::string hive_id, token;
  std::optional<std::string> url, certificate_request;
};

/// Errors: kInvalidRequest.
Result<JoinRequest> read_join(Queen& q, const std::string& text) {
  LLORCH_TRY(const auto body, wire::parse_body(text));
  wire::Fields f(body);
  const auto id = f.text("hive_id", 64), token = f.text("token", 1024);
  JoinRequest r{id.value_or(""), token.value_or(""), f.text("url", 1024), f.text("certificate_request", 16'384)};
  if (r.url && !net::parse_url(*r.url)) return fail(ErrorCode::kInvalidRequest, "url must be http[s]://host[:port]");
  if (security::check_identifier(r.hive_id, 64) || r.token.size() < security::kTokenBytesMin)
    return fail(ErrorCode::kInvalidRequest, "hive_id and token are required");
  if (q.tls().opened() && !r.certificate_request)
    return fail(ErrorCode::kInvalidRequest, "certificate_request is required: this colony speaks TLS");
  return r;
}

/// A hive that has just ended counts as alive for some heartbeats: invited by name, it joins again from its own
/// machine. Errors: kResourceInUse when another one has the name.
Status check_name_is_free(Queen& q, const service::Context& c, const std::string& hive_id) {
  const HiveEntry* h = q.hives().find(hive_id);
  if (!h || !q.hives().online(hive_id)) return {};
  const bool same_machine = colony::normal_host(h->peer.base.host) == colony::normal_host(c.request.peer);
  if (same_machine && q.members().invited_by_name(c.principal, hive_id)) return {};
  return fail(ErrorCode::kResourceInUse, "a hive of this name is alive");
}

/// With a join token: {node_token, certificate?, root?} comes back, once the hive is on disk.
void join(Queen& q, const service::ContextPtr& c) {
  const auto asked = read_join(q, c->request.body);
  const auto refuse = [&](const Error& why, std::string_view param = {}) {
    service::log(service::Level::kWarn, "join_refused", why.message,
                 {{"hive_id", asked ? asked->hive_id : ""}, {"peer", c->request.peer}});
    c->fail(why, {}, param);
  };
  if (!asked) return refuse(asked.error());
  if (const Status free = check_name_is_free(q, *c, asked->hive_id); !free) return refuse(free.error());
  // Also one that never joined, and speaks with the operator's token, keeps its name.
  const bool known = q.knows_hive(asked->hive_id);
  if (const Status may = q.members().check_joining(c->principal, asked->hive_id, known, security::now_in_seconds());
      !may)
    return refuse(may.error(), "hive_id");
  // Who has no right to join has nothing verified.
  if (const auto& request = asked->certificate_request)
    if (const Status sound = security::check_certificate_request(*request); !sound)
      return refuse(sound.error(), "certificate_request");
  const auto host = asked->url
                        ? colony::host_of_joining(net::parse_url(*asked->url)->host, origin_of(*c), q.tls().opened())
                        : Result<std::string>();
  if (!host) return refuse(host.error(), "url");
  const auto joined = q.members().join(c->principal, asked->hive_id, asked->token, security::now_in_seconds());
  if (!joined) return refuse(joined.error());
  q.hives().erase(asked->hive_id);  // what was known of it is of before
  HiveRow& row = q.catalog().hives[asked->hive_id];
  row.id = asked->hive_id, row.node_key = joined->node_key, row.joined_host = *host;
  const auto saved = std::make_shared<Status>();
  const auto answer = [&q, c, asked = *asked, node_token = joined->node_token](const Status& kept) {
    if (!kept) return c->fail(kept.error());
    answer_signed(q, c, asked.hive_id, asked.certificate_request, {{"node_token", node_token}});
  };
  q.background().run(
      [&q, saved, row, token = asked->token, invitations = q.members().invitations()] {
        *saved = q.members().save_invitations(invitations);
        if (*saved && !q.sharing()) *saved = q.members().save(row.id, token);
        if (*saved && !q.sharing()) *saved = q.catalog().save_joined(row);
        if (*saved) *saved = q.tls().readmit(row.id);
      },
      [&q, saved, row, token = asked->token, answer](const Status& done) {
        const Status& outcome = done ? *saved : done;
        if (!outcome || !q.sharing()) return answer(outcome);
        q.sharing()->keep_joined(row, token, answer);
      });
}

/// A join token, once it is on disk: {token, expires_in_s, hosts}.
void invite(Queen& q, const service::ContextPtr& c) {
  if (!q.front().has_token())
    return c->fail({ErrorCode::kInvalidRequest, "a queen without a token serves her own machine only"});
  const auto body = c->request.body.empty() ? Result<boost::json::object>() : wire::parse_body(c->request.body);
  if (!body) return c->fail(body.error());
  const std::string id = wire::Fields(*body).text("hive_id", 64).value_or("");
  if (!id.empty() && security::check_identifier(id, 64))
    return c->fail({ErrorCode::kInvalidRequest, "no hive has such a name"}, {}, "hive_id");
  const auto token = q.members().make_join_token(security::now_in_seconds(), id);
  if (!token) return c->fail(token.error());
  boost::json::array hosts(q.options().meeting_hosts.begin(), q.options().meeting_hosts.end());
  // The first contact believes the root that the token names, and nobody in the middle.
  const std::string shown = q.tls().opened() ? *token + "." + q.tls().authority().fingerprint() : *token;
  const auto saved = std::make_shared<Status>();
  q.background().run(
      [&q, saved, invitations = q.members().invitations()] { *saved = q.members().save_invitations(invitations); },
      [c, saved, shown, hosts = std::move(hosts)](const Status& done) {
        if (const Status& outcome = done ? *saved : done; !outcome) return c->fail(outcome.error());
        c->reply(200, {{"token", shown}, {"expires_in_s", 600}, {"hosts", hosts}});
      });
}

/// {hive_id, certificate_request, url?}: the next certificate of a hive that may speak for itself.
void renew(Queen& q, const service::ContextPtr& c) {
  const auto body = wire::parse_body(c->request.body);
  if (!body) return c->fail(body.error());
  wire::Fields f(*body);
  const auto id = f.text("hive_id", 64), request = f.text("certificate_request", 16'384);
  if (!id || !request) return c->fail({ErrorCode::kInvalidRequest, "hive_id and certificate_request are required"});
  if (!q.tls().opened()) return c->fail({ErrorCode::kInvalidRequest, "this colony has no authority"});
  Status may = q.members().check_speaker(speaker(*c), *id);
  if (may) may = check_certificate(q, *c, *id);  // one that was revoked has no successor
  if (!may) return c->fail(may.error());
  answer_signed(q, c, *id, *request, {});
}

/// In a colony that speaks TLS, nothing is sent in clear to another machine, nor for one to this machine. Errors:
/// kForbidden.
Status check_encrypted(Queen& q, const service::Context& c, const colony::HiveBeat& beat) {
  if (!q.tls().opened()) return {};
  const bool here = colony::is_from_here(origin_of(c));
  std::vector<std::string_view> addresses{beat.url};
  for (const auto& worker : beat.workers) addresses.push_back(worker.uri);
  for (const std::string_view address : addresses) {
    const auto url = net::parse_url(address);
    if (url && !url->tls && !(here && colony::is_own_address(url->host)))
      return fail(ErrorCode::kForbidden,
                  "{} is plain HTTP, and this colony speaks TLS: start the hive without "
                  "--insecure-http",
                  address);
  }
  return {};
}

Status take_beat(Queen& q, const service::Context& c, colony::HiveBeat beat) {
  const auto by = speaker(c);
  LLORCH_OK(q.members().check_speaker(by, beat.hive_id));
  LLORCH_OK(check_certificate(q, c, beat.hive_id));
  LLORCH_TRY(std::string token, q.members().token_for(by, beat.hive_id));
  const auto row = q.catalog().hives.find(beat.hive_id);
  LLORCH_OK(
      colony::settle_addresses(beat, origin_of(c, row == q.catalog().hives.end() ? "" : row->second.joined_host)));
  LLORCH_OK(check_encrypted(q, c, beat));
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
    boost::json::object answer{{"status", "ok"}, {"message", "heard"}, {"watched", q.watched()}};
    if (const Sharing* sharing = q.sharing()) answer["queens"] = boost::json::value_from(sharing->fleet().urls());
    c->reply(200, answer);
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
    Status may = q.members().check_speaker(speaker(*c), hive);
    if (may) may = check_certificate(q, *c, hive);
    if (!may) return c->fail(may.error());
    if (const auto why = f.text("message", 512); why && !why->empty())
      service::log(service::Level::kWarn, "worker_failed", security::sanitize(*why),
                   {{"hive_id", hive}, {"worker_id", *id}});
    q.forget_worker(hive, *id);
    c->reply(200, {{"status", "ok"}});
  });
  // How a hive that does not know the colony's token becomes one of it.
  r.route<Scope::kAdmin>(
      "POST", "/v1/join-tokens", [&q](const ContextPtr& c) { invite(q, c); }, service::Bodies::kSmall);
  r.route<Scope::kNode>("POST", "/v1/hive/join", [&q](const ContextPtr& c) { join(q, c); });
  r.route<Scope::kNode>("POST", "/v1/hive/certificate", [&q](const ContextPtr& c) { renew(q, c); });
  r.route<Scope::kPublic>("GET", "/v1/ca", [&q](const ContextPtr& c) {
    if (!q.tls().opened()) return c->fail({ErrorCode::kNotFound, "this colony has no authority"});
    c->reply(200, {{"root", q.tls().authority().root()}, {"fingerprint", q.tls().authority().fingerprint()}});
  });
  r.route<Scope::kAdmin>("POST", "/v1/ca/revoked/{}", [&q](const ContextPtr& c) {
    const std::string& id = c->parameters[0];
    if (security::check_identifier(id, 64)) return c->fail({ErrorCode::kInvalidRequest, "no hive has such a name"});
    if (!q.knows_hive(id)) return c->fail(q.unknown_hive(id));
    q.revoke_certificates(id, [c, id](const Status& done) {
      if (!done) return c->fail(done.error());
      c->reply(200, {{"hive_id", id}, {"status", "revoked"}});
    });
  });
  r.route<Scope::kAdmin>("DELETE", "/v1/hives/{}", [&q](const ContextPtr& c) {
    const std::string& id = c->parameters[0];
    if (!q.catalog().hives.contains(id) && !q.hives().find(id)) return c->fail(q.unknown_hive(id));
    q.forget_hive(id, [c, id](const Status& gone) {
      if (!gone) return c->fail(gone.error());
      c->reply(200, {{"hive_id", id}, {"status", "removed"}});
    });
  });
}

}  // namespace llorch::queen
