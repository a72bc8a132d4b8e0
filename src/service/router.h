// Routes, and the one wrapper round all of them: correlation id, host and origin, authentication, authorization, media
// type, deadline, error shape, audit of both outcomes, metrics.
//
// A route is declared as route<Scope>(method, pattern, handler): the scope has no default. A segment "{}" of a pattern
// takes any segment; "{*}" at its end takes the rest of the path, one segment or more, between which slashes may be
// escaped: names of models have some. Threads: the event loop's.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "net/http_server.h"
#include "security/audit.h"
#include "security/auth.h"
#include "service/cors.h"

namespace llorch::service {

using security::Scope;

class Router;

/// One request on its way through a handler; answered once.
class Context : public std::enable_shared_from_this<Context> {
 public:
  net::Request request;
  net::ExchangePtr exchange;
  security::Principal principal;
  std::string correlation_id;
  std::string traceparent;              // W3C trace context as it came, or empty
  std::vector<std::string> parameters;  // what the "{}" of the pattern took
  std::optional<std::chrono::system_clock::time_point> deadline;
  std::string route;  // the pattern, for metrics and audit
  CorsAnswer cors;    // what pages of another origin may do with the answer
  net::Clock::time_point accepted;

  void reply(int status, const boost::json::value& body, net::Headers headers = {});
  void reply(net::Response response);
  /// In the shape of J-02, with the headers that its code asks for.
  void fail(const Error& error, const boost::json::object& details = {}, std::string_view param = {});
  /// Headers that every answer carries.
  void decorate(net::Headers& headers) const;
  /// For answers that a stream gives: tells metrics and audit.
  void streamed(int status) { done(status); }

 private:
  friend class Router;
  void done(int status);
  Router* router_ = nullptr;
};
using ContextPtr = std::shared_ptr<Context>;

/// Errors whose messages may hold figures of memory (J-04).
[[nodiscard]] bool is_about_memory(ErrorCode code);
using Handler = std::function<void(const ContextPtr&)>;
/// Decides by a request's head alone; the handler for when its body is there, or nothing: it was answered.
using HeadHandler = std::function<Handler(const ContextPtr&)>;

/// A stream has no HEAD: what its GET would begin is more than a head tells.
enum class Answers : std::uint8_t { kWhole, kStream };
/// A handler that reads its body on the event loop takes a short one: limits::kSmallBodyBytesMax.
enum class Bodies : std::uint8_t { kAny, kSmall };

struct RouteInfo {
  Scope scope;
  std::string method, pattern;
  Answers answers = Answers::kWhole;
  Bodies bodies = Bodies::kAny;
};

struct RouterOptions {
  std::string own_address;
  std::vector<std::string> allowed_hosts;
  CorsPolicy cors;
  std::function<void(const Context&, int status)> on_done;  // metrics
};

class Router {
 public:
  Router(security::Authenticator& authenticator, security::AuditLog* audit, RouterOptions options)
      : authenticator_(authenticator), audit_(audit), options_(std::move(options)) {}

  template<Scope kScope>
  void route(std::string method, std::string pattern, Handler handler, Answers answers = Answers::kWhole) {
    routes_.push_back({{kScope, std::move(method), std::move(pattern), answers}, std::move(handler), nullptr});
  }
  template<Scope kScope>
  void route(std::string method, std::string pattern, Handler handler, Bodies bodies) {
    routes_.push_back(
        {{kScope, std::move(method), std::move(pattern), Answers::kWhole, bodies}, std::move(handler), nullptr});
  }
  /// The same for a handler that may refuse before the body is read. What its result holds is freed when the body does
  /// not arrive.
  template<Scope kScope>
  void route_by_head(std::string method, std::string pattern, HeadHandler handler) {
    routes_.push_back({{kScope, std::move(method), std::move(pattern)}, nullptr, std::move(handler)});
  }
  /// Everything that can be known from the head: who asks, for what, and how much may follow. Nothing: it was answered.
  [[nodiscard]] std::optional<net::BodyPlan> handle(net::Request head, const net::ExchangePtr& exchange);
  /// What a body may have, of a route that takes more than a few fields.
  void set_body_bytes_max(std::size_t bytes) { body_bytes_max_ = bytes; }
  /// Answers what failed below the level of routes.
  [[nodiscard]] net::Response refusal(const Error& error) { return refusal(error, random_uuid()); }
  [[nodiscard]] std::vector<RouteInfo> inventory() const;
  /// What a browser that asks for "/" without a key gets, with status 401.
  void set_door(net::Response page) { door_ = std::move(page); }
  /// What a request must pass besides its key, on every route that is not public. Errors: with what it is refused.
  void demand(std::function<Status(const Context&)> check) { demand_ = std::move(check); }
  void audit(boost::json::object event) {
    if (audit_) audit_->append(std::move(event));
  }
  /// From now on an administrative request runs when its record is on disk, and no request runs while the log cannot
  /// be written. `post` brings work to the event loop, from any thread.
  void require_audit(std::function<void(std::function<void()>)> post) { post_ = std::move(post); }

 private:
  friend class Context;
  struct Route {
    RouteInfo info;
    Handler handler;  // one of the two is empty
    HeadHandler head_handler;
  };
  struct Match {
    const Route* route = nullptr;
    std::vector<std::string> parameters;
    bool path_known = false;
    std::string allowed;  // methods
  };
  [[nodiscard]] Match match(const net::Request& request) const;
  /// What stands before a handler. True: go on.
  bool admit(Context& c, const Match& m);
  bool check_slashes(Context& c);
  bool check_origin(Context& c, bool changes);
  void answer_preflight(Context& c, const Match& m) const;
  [[nodiscard]] net::Response refusal(const Error& error, const std::string& correlation_id);
  bool check_deadline(Context& c);
  [[nodiscard]] std::size_t body_bytes_max(const RouteInfo& route) const;
  /// Writes down that an administrative request was let in, then runs it.
  void run(const ContextPtr& c, const Route& route, Handler handler);
  /// Calls `work`; what it throws becomes an answer.
  static void guarded(const ContextPtr& c, const Route& route, const std::function<void()>& work);

  security::Authenticator& authenticator_;
  security::AuditLog* audit_;
  RouterOptions options_;
  std::deque<Route> routes_;  // their places stay
  std::size_t body_bytes_max_ = 8u << 20;
  std::optional<net::Response> door_;
  std::function<Status(const Context&)> demand_;     // may be empty
  std::function<void(std::function<void()>)> post_;  // where the audit log is required
};

}  // namespace llorch::service
