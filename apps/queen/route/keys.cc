// Keys and the audit log for an administrator's page: what `llorch key` and `llorch audit tail` do, at the queen's own
// files (S-03, S-32); keys of a queen that is one of several, in the store that they share.
#include <algorithm>
#include <deque>
#include <filesystem>

#include "base/ids.h"
#include "base/integer.h"
#include "queen/queen.h"
#include "security/audit.h"
#include "security/keys.h"
#include "wire/fields.h"

namespace llorch::queen {
namespace {

using service::ContextPtr;

/// Runs on the background thread; what it gives, or its error, is the answer.
void answer_with(Queen& q, const ContextPtr& c, std::function<Result<boost::json::value>()> work) {
  const auto made = std::make_shared<Result<boost::json::value>>();
  q.background().run([made, work = std::move(work)] { *made = work(); },
                     [c, made](const Status& done) {
                       if (!done) return c->fail(done.error());
                       if (!*made) return c->fail(made->error());
                       c->reply(200, **made);
                     });
}

constexpr const char* kNoKeysFile = "this queen admits no further keys: start her with a token or --keys-file";
constexpr const char* kNoAuditLog = "this queen keeps no audit log: start her with --audit-log";

/// Errors are answered: a queen without keys has no file of them.
bool has_keys_file(Queen& q, const ContextPtr& c) {
  if (!q.options().keys_file.empty()) return true;
  c->fail({ErrorCode::kNotFound, kNoKeysFile});
  return false;
}

boost::json::object to_json(const security::ApiKey& k) {
  return {{"key", k.label()}, {"scopes", security::text_of(k.scopes)}, {"created", k.created}, {"name", k.name}};
}

/// One that was copied into the store is in both, and is one key.
bool has_hash(const std::vector<security::ApiKey>& keys, const std::string& hash) {
  return std::ranges::find(keys, hash, &security::ApiKey::hash) != keys.end();
}

/// {keys, note?}: the note says why there can be none.
void list_keys(Queen& q, const ContextPtr& c) {
  const auto of_fleet = q.sharing() ? q.sharing()->keys() : std::vector<security::ApiKey>();
  boost::json::array shared;
  for (const security::ApiKey& k : of_fleet) shared.push_back(to_json(k));
  if (q.options().keys_file.empty() && q.sharing()) return c->reply(200, {{"keys", std::move(shared)}});
  if (q.options().keys_file.empty()) return c->reply(200, {{"keys", boost::json::array()}, {"note", kNoKeysFile}});
  const auto work = [file = q.options().keys_file, of_fleet,
                     list = std::move(shared)]() mutable -> Result<boost::json::value> {
    std::error_code problem;
    if (!std::filesystem::exists(file, problem)) return boost::json::value{{"keys", std::move(list)}};
    LLORCH_TRY(const auto keys, security::read_keys(file));
    for (const security::ApiKey& k : keys)
      if (!has_hash(of_fleet, k.hash)) list.push_back(to_json(k));
    return boost::json::value{{"keys", std::move(list)}};
  };
  answer_with(q, c, work);
}

/// One that every queen of the fleet admits.
void share_key(Queen& q, const ContextPtr& c, const std::set<security::Scope>& scopes, const std::string& name) {
  const auto made = security::make_key(scopes, name, q.sharing()->keys());
  if (!made) return c->fail(made.error());
  boost::json::object answer{{"key", made->token}, {"scopes", security::text_of(scopes)}, {"name", name}};
  q.sharing()->add_key(made->key, [c, answer = std::move(answer)](const Status& kept) {
    if (!kept) return c->fail(kept.error());
    c->reply(200, answer);
  });
}

/// {name, scope}: {key, ...}, the key itself, once.
void create_key(Queen& q, const ContextPtr& c) {
  const auto body = wire::parse_body(c->request.body);
  if (!body) return c->fail(body.error());
  wire::Fields f(*body);
  const std::string name = f.text("name", 64).value_or(""), scope = f.text("scope", 64).value_or("infer");
  for (const std::string& other : f.unknown())
    f.violation(other, "known field", fmt::format("{} is no field of a key", other));
  const auto scopes = security::parse_scopes(scope);
  if (!scopes) f.violation("scope", "of infer, metrics, node, admin", scopes.error().message);
  if (!f.violations().empty())
    return c->fail(wire::violation_error(f.violations()), wire::violation_details(f.violations()),
                   f.violations().front().field);
  if (q.sharing()) return share_key(q, c, *scopes, name);
  if (!has_keys_file(q, c)) return;
  answer_with(q, c, [file = q.options().keys_file, scopes = *scopes, name]() -> Result<boost::json::value> {
    LLORCH_TRY(const std::string key, security::create_key(file, scopes, name));
    return boost::json::value{{"key", key}, {"scopes", security::text_of(scopes)}, {"name", name}};
  });
}

/// In the store, then in the keys file, where it was copied from that.
void revoke_shared(Queen& q, const ContextPtr& c, const security::ApiKey& key) {
  q.sharing()->remove_key(key, [&q, c, key](const Status& gone) {
    if (!gone) return c->fail(gone.error());
    if (q.options().keys_file.empty()) return c->reply(200, to_json(key));
    answer_with(q, c, [file = q.options().keys_file, key]() -> Result<boost::json::value> {
      std::error_code problem;
      if (std::filesystem::exists(file, problem)) {
        LLORCH_TRY(const auto keys, security::read_keys(file));
        if (has_hash(keys, key.hash)) LLORCH_OK(security::revoke_key(file, to_hex(key.hash)));
      }
      return boost::json::value(to_json(key));
    });
  });
}

void revoke_key(Queen& q, const ContextPtr& c) {
  if (Sharing* sharing = q.sharing()) {
    const auto key = security::find_key(sharing->keys(), c->parameters[0]);
    if (key) return revoke_shared(q, c, *key);
    if (q.options().keys_file.empty()) return c->fail(key.error());
  }
  if (!has_keys_file(q, c)) return;
  answer_with(q, c, [file = q.options().keys_file, which = c->parameters[0]]() -> Result<boost::json::value> {
    LLORCH_TRY(const security::ApiKey gone, security::revoke_key(file, which));
    return boost::json::value(to_json(gone));
  });
}

/// ?lines=: {records, note?}, the last ones, oldest first; the note says why there are none.
void audit_tail(Queen& q, const ContextPtr& c) {
  const auto lines = parse_integer(c->request.target.parameter("lines").value_or("50"), 1, 1000);
  if (!lines) return c->fail({ErrorCode::kInvalidRequest, "lines must be a whole number from 1 to 1000"}, {}, "lines");
  if (q.options().audit_log.empty()) return c->reply(200, {{"records", boost::json::array()}, {"note", kNoAuditLog}});
  answer_with(q, c, [file = q.options().audit_log, n = *lines]() -> Result<boost::json::value> {
    std::deque<boost::json::object> last;
    LLORCH_OK(security::for_each_record(file, {}, [&](const auto& record) {
      last.push_back(record);
      if (last.size() > static_cast<std::size_t>(n)) last.pop_front();
    }));
    return boost::json::value{{"records", boost::json::array(last.begin(), last.end())}};
  });
}

}  // namespace

void add_route_keys(Queen& q) {
  using service::Scope;
  auto& r = q.front().router();
  r.route<Scope::kAdmin>("GET", "/v1/keys", [&q](const ContextPtr& c) { list_keys(q, c); });
  r.route<Scope::kAdmin>(
      "POST", "/v1/keys", [&q](const ContextPtr& c) { create_key(q, c); }, service::Bodies::kSmall);
  r.route<Scope::kAdmin>("DELETE", "/v1/keys/{}", [&q](const ContextPtr& c) { revoke_key(q, c); });
  r.route<Scope::kAdmin>("GET", "/v1/audit", [&q](const ContextPtr& c) { audit_tail(q, c); });
}

}  // namespace llorch::queen
