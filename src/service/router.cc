#include "service/router.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/integer.h"
#include "security/validate.h"
#include "service/log.h"
#include "service/wall_time.h"
#include "wire/error_body.h"

namespace llorch::service {
namespace {

bool correlation_id_fits(std::string_view id) { return !security::check_identifier(id, 64) && !id.contains('_'); }

/// version-trace-parent-flags in lower-case hex, no all-zero id (W3C Trace Context, section 3.2).
bool traceparent_fits(std::string_view t) {
  if (t.size() != 55 || t[2] != '-' || t[35] != '-' || t[52] != '-' || t.starts_with("ff")) return false;
  const auto zero = [&](std::size_t at, std::size_t n) { return t.substr(at, n).find_first_not_of('0') == t.npos; };
  return t.find_first_not_of("0123456789abcdef-") == t.npos && std::ranges::count(t, '-') == 3 && !zero(3, 32) &&
         !zero(36, 16);
}

std::vector<std::string_view> segments(std::string_view path) {
  std::vector<std::string_view> out;
  while (!path.empty()) {
    path.remove_prefix(1);
    out.push_back(path.substr(0, path.find('/')));
    path.remove_prefix(out.back().size());
  }
  return out;
}

/// Headers that a code's answer carries besides (J-06, J-07, S-43).
void add_code_headers(ErrorCode code, net::Headers& headers) {
  const int status = kind(code).http_status;
  if (status == 429 || code == ErrorCode::kLoading || code == ErrorCode::kShuttingDown ||
      code == ErrorCode::kNoWorkersAvailable || code == ErrorCode::kAuditUnavailable ||
      code == ErrorCode::kStoreUnavailable ||
      code == ErrorCode::kDeadlineExceeded) {
    headers.add("Retry-After", "1");
    headers.add("retry-after-ms", "1000");
  }
  if (status >= 500 && !kind(code).retriable) headers.add("x-should-retry", "false");
}

Error not_audited() {
  return {ErrorCode::kAuditUnavailable, "the audit log cannot be written: nothing is done unrecorded"};
}

/// The audit event (S-34) of a refusal, or nothing.
std::string_view audit_event(ErrorCode code) {
  switch (code) {
    case ErrorCode::kMissingApiKey: return "auth_failure";
    case ErrorCode::kInvalidApiKey: return "invalid_token_used";
    case ErrorCode::kForbidden: return "authorization_denied";
    case ErrorCode::kHostNotAllowed: return "policy_violation";
    case ErrorCode::kRateLimited: return "rate_limit_exceeded";
    case ErrorCode::kPayloadTooLarge:
    case ErrorCode::kHeadersTooLarge:
    case ErrorCode::kQueueFull:
    case ErrorCode::kKvOom: return "resource_limit_violation";
    default: return {};
  }
}

/// Of all deadlines, so that no sum of one with a duration overflows: the year 2255.
constexpr std::chrono::milliseconds kLatestDeadline{std::int64_t{9'000'000'000'000}};

/// Epoch milliseconds or RFC 3339 (S-40).
std::optional<WallTime> parse_deadline(const std::string& text) {
  if (const auto ms = parse_integer<std::int64_t>(text)) {
    if (*ms < 0 || *ms > std::int64_t{1} << 45) return std::nullopt;
    // A wall clock counts nanoseconds in 64 bits: it ends in the year 2262, and so does every deadline.
    return *ms >= kLatestDeadline.count() ? WallTime(kLatestDeadline) : WallTime(std::chrono::milliseconds(*ms));
  }
  const auto time = parse_rfc3339(text);
  return time && *time > WallTime(kLatestDeadline) ? WallTime(kLatestDeadline) : time;
}

}  // namespace

void Context::decorate(net::Headers& headers) const {
  headers.add("X-Correlation-Id", correlation_id);
  headers.add("x-request-id", correlation_id);
  headers.add("X-Content-Type-Options", "nosniff");
  cors.add_to(headers);
}

/// A line for every answer, where somebody wants to see them: the route's pattern, for paths may hold secrets.
void log_request(const Context& c, int status) {
  if (!logs(Level::kDebug)) return;
  const std::chrono::duration<double, std::milli> took = net::Clock::now() - c.accepted;
  const std::string_view route = c.route.empty() ? "(no route)" : std::string_view(c.route);
  log(Level::kDebug, "request", fmt::format("{} {} {} in {:.1f} ms", c.request.method, route, status, took.count()),
      {{"correlation_id", c.correlation_id},
       {"method", c.request.method},
       {"route", route},
       {"status", status},
       {"duration_ms", took.count()},
       {"principal", c.principal.label()}});
}

void Context::done(int status) {
  if (!router_) return;
  Router& router = *std::exchange(router_, nullptr);
  log_request(*this, status);
  if (router.options_.on_done) router.options_.on_done(*this, status);
}

void Context::reply(net::Response response) {
  decorate(response.headers);
  const int status = response.status;
  exchange->send(std::move(response));
  done(status);
}

void Context::reply(int status, const boost::json::value& body, net::Headers headers) {
  net::Response r;
  r.status = status;
  r.body = boost::json::serialize(body);
  r.headers = std::move(headers);
  reply(std::move(r));
}

bool is_about_memory(ErrorCode code) {
  return code == ErrorCode::kInsufficientMemory || code == ErrorCode::kInsufficientVram ||
         code == ErrorCode::kNoWorkersAvailable;
}

void Context::fail(const Error& error, const boost::json::object& details, std::string_view param) {
  if (is_about_memory(error.code) && !principal.may(Scope::kAdmin))
    if (std::string told = security::without_figures(error.message); told != error.message)
      return fail({error.code, std::move(told)}, details, param);
  net::Headers headers;
  add_code_headers(error.code, headers);
  if (const auto* over = details.if_contains("exceeded_by_ms"))
    headers.add("X-Deadline-Exceeded-By-Ms", boost::json::serialize(*over));
  const int status = kind(error.code).http_status;
  if (router_)
    if (const std::string_view event = audit_event(error.code); !event.empty())
      router_->audit({{"event_type", event},
                      {"code", name(error.code)},
                      {"route", route},
                      {"peer", request.peer},
                      {"actor", principal.label()},
                      {"correlation_id", correlation_id}});
  reply(status, wire::shaped_error(request.target.path, wire::error_body(error, correlation_id, details, param)),
        std::move(headers));
}

net::Response Router::refusal(const Error& error, const std::string& id) {
  net::Response r;
  r.status = kind(error.code).http_status;
  std::string_view event = audit_event(error.code);
  if (error.code == ErrorCode::kInvalidRequest)
    event = error.message.ends_with(net::kDotSegments) ? "path_traversal_attempt" : "suspicious_activity";
  if (!event.empty())
    audit({{"event_type", event}, {"code", name(error.code)}, {"reason", error.message}, {"correlation_id", id}});
  r.body = boost::json::serialize(wire::error_body(error, id));
  r.headers.add("X-Correlation-Id", id);
  r.headers.add("x-request-id", id);
  return r;
}

std::vector<RouteInfo> Router::inventory() const {
  std::vector<RouteInfo> out;
  for (const Route& r : routes_) out.push_back(r.info);
  return out;
}

namespace {

constexpr std::string_view kRest = "/{*}";

/// What the pattern's places take of a path; nothing where it does not fit.
std::optional<std::vector<std::string>> take(std::string_view pattern, std::string_view path) {
  const bool takes_rest = pattern.ends_with(kRest);
  if (takes_rest) pattern.remove_suffix(kRest.size());
  const auto wanted = segments(pattern), given = segments(path);
  if (takes_rest ? given.size() <= wanted.size() : given.size() != wanted.size()) return std::nullopt;
  std::vector<std::string> taken;
  std::size_t length = 0;  // of what was compared
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] == "{}")
      taken.emplace_back(given[i]);
    else if (wanted[i] != given[i])
      return std::nullopt;
    length += 1 + given[i].size();
  }
  if (takes_rest) taken.emplace_back(path.substr(length + 1));
  return taken;
}

}  // namespace

Router::Match Router::match(const net::Request& request) const {
  Match m;
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  const auto serves = [&](const RouteInfo& info) {
    return info.method == method && (request.method != "HEAD" || info.answers == Answers::kWhole);
  };
  for (const Route& r : routes_) {
    auto taken = take(r.info.pattern, request.target.path);
    if (!taken) continue;
    m.path_known = true;
    m.allowed += r.info.method + ", ";
    if (r.info.method == "GET" && r.info.answers == Answers::kWhole) m.allowed += "HEAD, ";
    if (!m.route && serves(r.info)) m.route = &r, m.parameters = *std::move(taken);
  }
  m.allowed += "OPTIONS";
  return m;
}

/// An escaped slash is a second spelling of a path, except in what a route takes as a name.
bool Router::check_slashes(Context& c) {
  const std::size_t at = c.request.target.escaped_slash;
  if (at == std::string::npos) return true;
  if (c.route.ends_with(kRest)) {
    std::string_view before = std::string_view(c.request.target.path).substr(0, at);
    const auto names = segments(std::string_view(c.route).substr(0, c.route.size() - kRest.size()));
    if (segments(before).size() > names.size()) return true;
  }
  audit({{"event_type", "path_traversal_attempt"}, {"peer", c.request.peer}, {"correlation_id", c.correlation_id}});
  return c.fail({ErrorCode::kInvalidRequest, "request target: an escaped slash is refused"}), false;
}

/// A foreign page may neither read (no CORS header without leave) nor change anything (S-10, S-61).
bool Router::check_origin(Context& c, bool changes) {
  const auto origin = c.request.headers.get("Origin");
  if (!origin) return true;
  const std::string host = c.request.headers.get("Host").value_or("");
  const bool own =
      net::equal_ignoring_case(*origin, "http://" + host) || net::equal_ignoring_case(*origin, "https://" + host);
  if (!own && !c.cors.allowed() && changes)
    return c.fail({ErrorCode::kForbidden, "requests from pages of another origin are refused"}), false;
  return true;
}

/// What a browser asks before it lets a page of another origin ask; without a key, as browsers do that.
void Router::answer_preflight(Context& c, const Match& m) const {
  if (!c.cors.allowed())
    return c.fail({ErrorCode::kForbidden, "pages of this origin may not use this server: see --cors-origin"});
  net::Response r;
  r.status = 204, r.content_type.clear();
  const auto wanted = c.request.headers.get("Access-Control-Request-Headers");
  add_preflight_headers(r.headers, m.path_known ? m.allowed : "GET, HEAD, POST, PUT, DELETE, OPTIONS",
                        wanted.value_or(""));
  c.reply(std::move(r));
}

namespace {

bool is_preflight(const net::Request& request) {
  return request.method == "OPTIONS" && request.headers.get("Origin") &&
         request.headers.get("Access-Control-Request-Method");
}

bool is_plain(Context& c) {
  const std::string coding = c.request.headers.get("Content-Encoding").value_or("");
  if (coding.empty() || net::equal_ignoring_case(coding, "identity")) return true;
  return c.fail({ErrorCode::kUnsupportedMediaType, "compressed bodies are not accepted"}), false;
}

bool takes_json(Context& c, bool has_body) {
  if ((c.request.method != "POST" && c.request.method != "PUT") || !has_body) return true;
  const auto stated = c.request.headers.get("Content-Type");
  const std::string stated_type = stated.value_or("");
  const std::string type = stated_type.substr(0, stated_type.find_first_of("; "));
  if (net::equal_ignoring_case(type, "application/json")) return true;
  // Programs leave it out, and `curl -d` calls whatever it sends a form. A page can send both without a preflight, but
  // not without a browser's own headers.
  const bool by_page = c.request.headers.get("Origin") || c.request.headers.get("Sec-Fetch-Site");
  if (!by_page && (!stated || net::equal_ignoring_case(type, "application/x-www-form-urlencoded"))) return true;
  return c.fail({ErrorCode::kUnsupportedMediaType, "the body must be application/json"}), false;
}

}  // namespace

bool Router::admit(Context& c, const Match& m) {
  const std::string host = c.request.headers.get("Host").value_or("");
  // The address that the peer has reached is ours, also when we listen on all of them.
  const std::string& local = c.request.local;
  if (!security::host_allowed(host, options_.own_address, options_.allowed_hosts) &&
      !security::host_allowed(host, local.contains(':') ? "[" + local + "]" : local, {}))
    return c.fail({ErrorCode::kHostNotAllowed, "the Host header names another server"}), false;
  if (is_preflight(c.request)) return answer_preflight(c, m), false;
  if (!check_slashes(c)) return false;
  const bool is_public = m.route && m.route->info.scope == Scope::kPublic;
  if (!is_public) {
    const net::Headers& h = c.request.headers;
    auto who = authenticator_.authenticate(
        {h.get("Authorization"), h.get("x-api-key"), h.get("X-Forwarded-User"), c.request.peer}, net::Clock::now());
    if (!who && door_ && c.route == "/" && who.error().code == ErrorCode::kMissingApiKey &&
        h.get("Accept").value_or("").contains("text/html")) {
      net::Response door = *door_;
      door.status = 401;
      return c.reply(std::move(door)), false;
    }
    if (!who) return c.fail(who.error()), false;
    c.principal = *std::move(who);
    if (const Status passed = demand_ ? demand_(c) : Status(); !passed) return c.fail(passed.error()), false;
  }
  if (!m.path_known) return c.fail({ErrorCode::kNotFound, "there is no such route"}), false;
  if (!m.route) {
    net::Headers headers;
    headers.add("Allow", m.allowed);
    if (c.request.method == "OPTIONS") return c.reply({204, "", "", std::move(headers)}), false;
    const Error error{ErrorCode::kMethodNotAllowed, "this route takes " + m.allowed};
    return c.reply(405, wire::shaped_error(c.request.target.path, wire::error_body(error, c.correlation_id)),
                   std::move(headers)),
           false;
  }
  if (!is_public && !c.principal.may(m.route->info.scope))
    return c.fail({ErrorCode::kForbidden, fmt::format("this API key does not have the scope {}, which the route needs",
                                                      security::name(m.route->info.scope))}),
           false;
  if (post_ && !is_public && !audit_->healthy()) {
    // This refusal's own record finds out when records are kept again.
    audit({{"event_type", "policy_violation"}, {"route", c.route}, {"actor", c.principal.label()}});
    return c.fail(not_audited()), false;
  }
  if (!check_origin(c, c.request.method != "GET" && c.request.method != "HEAD")) return false;
  return is_plain(c) && takes_json(c, c.request.has_body) && check_deadline(c);
}

bool Router::check_deadline(Context& c) {
  if (const auto text = c.request.headers.get("X-Deadline")) {
    c.deadline = parse_deadline(*text);
    if (!c.deadline)
      return c.fail({ErrorCode::kInvalidRequest, "X-Deadline must be epoch milliseconds or RFC 3339"}, {},
                    "X-Deadline"),
             false;
  } else if (const auto relative = c.request.target.parameter("deadline_ms")) {
    const auto ms = parse_integer<std::int64_t>(*relative);
    if (!ms || *ms < 1 || *ms > std::int64_t{1} << 40)
      return c.fail({ErrorCode::kInvalidRequest, "deadline_ms must be a positive integer"}, {}, "deadline_ms"), false;
    c.deadline = std::chrono::system_clock::now() + std::chrono::milliseconds(*ms);
  }
  return true;
}

/// Of what daemons tell each other about machines: it is read on the loop. A heartbeat of 512 workers fits.
constexpr std::size_t kNodeBodyBytesMax = 1u << 20;

std::size_t Router::body_bytes_max(const RouteInfo& route) const {
  const bool small = route.bodies == Bodies::kSmall || route.method != "POST" || route.scope == Scope::kPublic ||
                     route.scope == Scope::kMetrics;
  if (small) return std::min(limits::kSmallBodyBytesMax, body_bytes_max_);
  return route.scope == Scope::kNode ? std::min(kNodeBodyBytesMax, body_bytes_max_) : body_bytes_max_;
}

std::optional<net::BodyPlan> Router::handle(net::Request head, const net::ExchangePtr& exchange) {
  const auto c = std::make_shared<Context>();
  c->router_ = this;
  c->request = std::move(head);
  c->exchange = exchange;
  c->accepted = net::Clock::now();
  const std::string id = c->request.headers.get("X-Correlation-Id").value_or("");
  c->correlation_id = correlation_id_fits(id) ? id : random_uuid();
  const std::string trace = c->request.headers.get("traceparent").value_or("");
  if (traceparent_fits(trace)) c->traceparent = trace;
  c->cors = options_.cors.answer(c->request.headers.get("Origin"));
  Match m = match(c->request);
  if (m.route) c->route = m.route->info.pattern;
  if (!admit(*c, m)) return std::nullopt;
  c->parameters = std::move(m.parameters);
  const bool known = m.route->info.scope != Scope::kPublic;
  Handler handler = m.route->handler;
  if (m.route->head_handler) guarded(c, *m.route, [&] { handler = m.route->head_handler(c); });
  if (!handler) return std::nullopt;
  return net::BodyPlan{
      body_bytes_max(m.route->info), known,
      [this, c, route = m.route, handler = std::move(handler)](std::string body, net::BodySharePtr share) {
        c->request.body = std::move(body), c->request.body_share = std::move(share);
        run(c, *route, handler);
      },
      [this, c](const Error& error) {
        net::Response refused = refusal(error, c->correlation_id);
        c->cors.add_to(refused.headers);
        return refused;
      }};
}

void Router::guarded(const ContextPtr& c, const Route& route, const std::function<void()>& work) {
  try {
    try {
      work();
    } catch (const std::exception& e) {
      log(Level::kError, "handler_failed", e.what(),
          {{"route", route.info.pattern}, {"correlation_id", c->correlation_id}});
      if (c->exchange->alive())
        c->fail({ErrorCode::kInternal, "an unexpected fault; the log has the details under this correlation id"});
    }
  } catch (const std::exception&) {  // of memory for the answer: nobody else would end this request
    c->exchange->abort();
  }
}

void Router::run(const ContextPtr& c, const Route& route, Handler handler) {
  const auto work = [c, &route, handler = std::move(handler)] {
    guarded(c, route, [&] {
      if (takes_json(*c, !c->request.body.empty())) handler(c);
    });
  };
  if (!audit_ || route.info.scope != Scope::kAdmin) return work();
  boost::json::object granted{{"event_type", "authorization_granted"},
                              {"route", route.info.pattern},
                              {"actor", c->principal.label()},
                              {"peer", c->request.peer},
                              {"correlation_id", c->correlation_id}};
  if (!post_) {
    audit_->append(std::move(granted));
    return work();
  }
  audit_->append(std::move(granted), [post = post_, c, work](bool kept) {
    post([c, work, kept] {
      if (kept) return work();
      c->fail(not_audited());
    });
  });
}

}  // namespace llorch::service
