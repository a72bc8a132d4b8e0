#include "coord/etcd_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/ids.h"

namespace llorch::coord::etcd {
namespace {

constexpr std::size_t kAnswerBytesMax = 64u << 20;

/// gRPC's codes, as far as they decide what is done. Source: grpc.io, "Status codes".
constexpr std::int64_t kInvalidArgument = 3, kNotFound = 5, kPermissionDenied = 7, kResourceExhausted = 8,
                       kFailedPrecondition = 9, kOutOfRange = 11, kUnauthenticated = 16;

enum class Then { kFail, kAuthenticate, kTryElsewhere };
struct Meaning {
  Then then = Then::kTryElsewhere;
  Problem problem = Problem::kUnavailable;
};

/// What is not surely refused may have happened.
Meaning meaning_of(const Refusal& r) {
  const auto says = [&](std::string_view text) { return r.message.contains(text); };
  switch (r.code) {
    case kUnauthenticated: return {Then::kAuthenticate};
    case kPermissionDenied: return {Then::kFail, Problem::kUnauthenticated};
    case kNotFound: return {Then::kFail, says("lease") ? Problem::kLeaseNotFound : Problem::kInvalid};
    case kOutOfRange: return {Then::kFail, says("compacted") ? Problem::kCompacted : Problem::kInvalid};
    case kResourceExhausted: return {Then::kFail, Problem::kUnavailable};
    case kFailedPrecondition: return {Then::kFail, Problem::kInvalid};
    case kInvalidArgument:
      if (says("user name is empty") || says("revision of auth store is old") || says("auth: revision"))
        return {Then::kAuthenticate};
      if (says("authentication failed")) return {Then::kFail, Problem::kUnauthenticated};
      return {Then::kFail, says("too large") ? Problem::kTooLarge : Problem::kInvalid};
    default: return {};
  }
}

}  // namespace

struct Client::Asking : std::enable_shared_from_this<Asking> {
  Asking(Client& c, Request r, Done<std::size_t> d)
      : client(c), request(std::move(r)), done(std::move(d)), tried(c.endpoints_.size()) {}

  using Take = void (Asking::*)(const bj::object& answer);
  void next();
  void step();
  void authenticate();
  void send(std::string path, std::string to_send, Take then);
  void take_end(const Status& outcome);
  void take_long_answer();
  void take_refusal();
  void take_status(const bj::object& answer);
  void take_token(const bj::object& answer);
  void take_answer(const bj::object& answer);
  void trouble(const std::string& why, bool sent);
  void finish(Outcome<std::size_t> outcome);
  void fail_with(Problem problem, const std::string& why, bool may_have_happened = false);
  void end_authenticating();
  /// Whether the request itself is under way, not what goes before it.
  [[nodiscard]] bool is_sent() const { return take == &Asking::take_answer; }

  Client& client;
  Request request;
  Done<std::size_t> done;
  std::vector<bool> tried;
  std::size_t endpoint = 0;
  std::string reasons;
  std::string used_token;
  bool authenticates = false, token_was_refused = false;
  net::Call call;
  Take take = nullptr;
  int status = 0;
  std::string body;
};

void Client::Asking::next() {
  const auto chosen = client.pick(tried);
  if (!chosen) return fail_with(Problem::kUnavailable, "no endpoint of etcd answers: " + reasons);
  endpoint = *chosen;
  tried[endpoint] = true;
  step();
}

void Client::Asking::step() {
  if (!client.endpoints_[endpoint].verified) return send("/v3/maintenance/status", "{}", &Asking::take_status);
  if (client.options_.credentials && client.token_.empty()) return authenticate();
  if (request.path.empty()) return finish(endpoint);
  used_token = client.token_;
  send(request.path, request.body, &Asking::take_answer);
}

void Client::Asking::authenticate() {
  if (client.authenticating_) return client.waiting_.push_back(weak_from_this());
  client.authenticating_ = authenticates = true;
  const Credentials& c = *client.options_.credentials;
  send("/v3/auth/authenticate", bj::serialize(bj::object{{"name", c.user}, {"password", c.password}}),
       &Asking::take_token);
}

void Client::Asking::end_authenticating() {
  if (!std::exchange(authenticates, false)) return;
  client.authenticating_ = false;
  for (const auto& weak : std::exchange(client.waiting_, {}))
    client.loop_.post([weak] {
      if (const auto waits = weak.lock()) waits->step();
    });
}

void Client::Asking::send(std::string path, std::string to_send, Take then) {
  take = then, status = 0, body.clear();
  const auto weak = weak_from_this();
  call = net::start_call(client.loop_, client.request_to(endpoint, std::move(path), std::move(to_send)),
                         {.on_head =
                              [weak](int s, const net::Headers&) {
                                if (const auto self = weak.lock()) self->status = s;
                              },
                          .on_data =
                              [weak](std::string_view bytes) {
                                const auto self = weak.lock();
                                if (!self) return;
                                self->body += bytes;
                                if (self->body.size() <= kAnswerBytesMax) return;
                                self->call = {};
                                self->take_long_answer();
                              },
                          .on_end =
                              [weak](const Status& outcome) {
                                if (const auto self = weak.lock()) self->take_end(outcome);
                              }});
}

void Client::Asking::take_end(const Status& outcome) {
  if (!outcome) return trouble(outcome.error().message, is_sent() && !net::never_sent(outcome.error()));
  if (status != 200) return take_refusal();
  auto answer = read_object(std::exchange(body, {}));
  if (!answer) return trouble("malformed answer: " + answer.error().message, is_sent());
  (this->*take)(*answer);
}

/// Other endpoints would answer a read the same.
void Client::Asking::take_long_answer() {
  if (!is_sent() || !request.may_repeat) return trouble("its answer is longer than 64 MiB", is_sent());
  fail_with(Problem::kTooLarge, fmt::format("etcd at {}: its answer is longer than 64 MiB: ask for fewer entries",
                                            client.name_of(endpoint)));
}

void Client::Asking::take_refusal() {
  const Refusal refusal = read_refusal(status, body);
  const Meaning meaning = meaning_of(refusal);
  const std::string why = fmt::format("{}: {}", client.name_of(endpoint), refusal.message);
  if (authenticates && meaning.then != Then::kTryElsewhere)
    return fail_with(Problem::kUnauthenticated,
                     fmt::format("etcd does not give '{}' a token: {}", client.options_.credentials->user, why));
  if (meaning.then == Then::kAuthenticate) {
    if (!client.options_.credentials || std::exchange(token_was_refused, true))
      return fail_with(Problem::kUnauthenticated, "etcd asks for a user name and password: " + why);
    if (client.token_ == used_token) client.drop_token();
    return step();
  }
  if (meaning.then == Then::kFail) return fail_with(meaning.problem, "etcd at " + why);
  trouble(refusal.message, is_sent());
}

void Client::Asking::take_status(const bj::object& answer) {
  auto cluster = read_cluster(answer);
  if (!cluster) return trouble("malformed answer: " + cluster.error().message, false);
  if (client.cluster_.empty()) client.cluster_ = *cluster;
  if (client.cluster_ != *cluster) return trouble("it belongs to another cluster than the others", false);
  client.endpoints_[endpoint].verified = true;
  step();
}

void Client::Asking::take_token(const bj::object& answer) {
  const bj::value* token = answer.if_contains("token");
  if (!token || !token->is_string() || token->get_string().empty() || token->get_string().size() > 8192)
    return trouble("malformed answer: 'token' is missing", false);
  client.token_ = std::string(token->get_string().data(), token->get_string().size());
  end_authenticating();
  step();
}

void Client::Asking::take_answer(const bj::object& answer) {
  if (const Status read = request.read ? request.read(answer) : Status(); !read)
    return trouble("malformed answer: " + read.error().message, true);
  client.mark_up(endpoint);
  finish(endpoint);
}

void Client::Asking::trouble(const std::string& why, bool sent) {
  reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", client.name_of(endpoint), why);
  client.mark_down(endpoint);
  end_authenticating();
  if (sent && !request.may_repeat)
    return fail_with(Problem::kUnavailable, "etcd has not answered a request that was sent: " + reasons, true);
  next();
}

void Client::Asking::fail_with(Problem problem, const std::string& why, bool may_have_happened) {
  finish(std::unexpected(Failure{problem, why, 0, may_have_happened}));
}

void Client::Asking::finish(Outcome<std::size_t> outcome) {
  const auto self = shared_from_this();
  end_authenticating();
  call = {};
  client.asking_.erase(self);
  done(std::move(outcome));
}

Client::Client(net::EventLoop& loop, EtcdOptions options) : loop_(loop), options_(std::move(options)) {
  for (const net::Url& url : options_.endpoints)
    endpoints_.push_back(
        {url, fmt::format(fmt::runtime(url.host.contains(':') ? "[{}]:{}" : "{}:{}"), url.host, url.port)});
  // Of many stores not all at the first one.
  if (!endpoints_.empty()) preferred_ = static_cast<unsigned char>(from_hex(random_hex(1))[0]) % endpoints_.size();
}
Client::~Client() = default;

std::optional<std::size_t> Client::pick(const std::vector<bool>& tried) const {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    const std::size_t at = (preferred_ + i) % endpoints_.size();
    if (!tried[at] && (!best || endpoints_[at].failed < endpoints_[*best].failed)) best = at;
  }
  return best;
}

void Client::mark_down(std::size_t endpoint) { endpoints_[endpoint].failed = ++failures_; }
void Client::mark_up(std::size_t endpoint) {
  endpoints_[endpoint].failed = 0;
  preferred_ = endpoint;
}

net::ClientRequest Client::request_to(std::size_t endpoint, std::string path, std::string body) const {
  net::ClientRequest r;
  r.method = "POST";
  r.url = endpoints_[endpoint].url;
  r.url.path = std::move(path);
  r.headers.add("Content-Type", "application/json");
  if (!token_.empty()) r.headers.add("Authorization", token_);
  r.body = std::move(body);
  r.connect_timeout = options_.connect_timeout;
  r.idle_timeout = r.total_timeout = options_.answer_timeout;
  r.tls = options_.tls;
  return r;
}

void Client::start(Request request, Done<std::size_t> done) {
  auto asking = std::make_shared<Asking>(*this, std::move(request), std::move(done));
  asking_.insert(asking);
  loop_.post([weak = std::weak_ptr(asking)] {
    if (const auto self = weak.lock()) self->next();
  });
}

void Client::ask(Request request, Done<void> done) {
  start(std::move(request), [done = std::move(done)](Outcome<std::size_t> outcome) {
    if (!outcome) return done(std::unexpected(std::move(outcome).error()));
    done({});
  });
}

void Client::prepare(Done<std::size_t> done) { start({}, std::move(done)); }

std::string Client::description() const {
  std::string text = "etcd at ";
  for (const Endpoint& e : endpoints_) text += (&e == endpoints_.data() ? "" : ", ") + e.name;
  return text;
}

}  // namespace llorch::coord::etcd
