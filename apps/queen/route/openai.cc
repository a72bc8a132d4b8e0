// OpenAI's APIs and Anthropic's for the whole colony: a request finds its worker, and the worker's answer comes back
// byte for byte (J-50).
#include <algorithm>

#include "format/json.h"
#include "net/url.h"
#include "queen/answer_stream.h"
#include "queen/cache_salt.h"
#include "queen/kept_answer.h"
#include "queen/queen.h"
#include "security/digest.h"
#include "service/job_stream.h"
#include "service/log.h"
#include "wire/error_body.h"
#include "wire/fields.h"
#include "wire/ollama_api.h"

namespace llorch::queen {
namespace {

using service::ContextPtr;
using service::FlowPtr;
using service::Procedure;
using service::Step;

using Done = Step<bool>::Done;

constexpr std::size_t kAnswerBytesMax = 32u << 20;  // of an answer that is kept whole
constexpr std::size_t kUnsentMax = 8u << 20;        // of a stream that its client does not take

/// What a worker's answer has brought so far.
struct Relayed {
  bool streamed = false;
  bool over = false;             // nothing more is taken
  std::optional<Error> refused;  // why no other worker is tried either
  net::Response response;
  AnswerStream stream;                                                    // of one that is streamed
  std::function<void(const std::string& id)> on_stored;                   // the worker keeps this response
  std::function<Result<std::shared_ptr<KeptAnswer>>(net::Headers)> keep;  // where the client may come back for it
  std::shared_ptr<KeptAnswer> kept;                                       // and is streamed from
  PulsePtr pulse = std::make_shared<Pulse>();
  std::shared_ptr<std::int64_t> tokens;  // of the worker, see Seat

  /// The worker says itself that its answer is whole.
  [[nodiscard]] bool whole() const { return streamed ? stream.whole() : response.status / 100 == 2; }
};

void give_up(Relayed& r, const Done& done, Error why) {
  r.over = true;
  done(std::unexpected(std::move(why)));
}

/// Headers of the worker's answer that a job's stream does not make itself.
net::Headers said_of_sampling(const net::Headers& of_worker) {
  net::Headers out;
  for (const char* name : {"X-Llorch-Ignored", "X-Llorch-Sampling", "X-Deadline-Exceeded-By-Ms"})
    if (const auto value = of_worker.get(name)) out.add(name, *value);
  return out;
}

void take_head(const ContextPtr& c, Relayed& r, int status, const net::Headers& headers, const Done& done) {
  if (status < 200 || status > 599)
    return give_up(r, done, {ErrorCode::kIo, fmt::format("{} is no status of an answer", status)});
  r.response.status = status;
  r.response.content_type = headers.get("Content-Type").value_or("application/json");
  for (const char* name : {"X-Llorch-Ignored", "X-Llorch-Sampling", "Retry-After", "retry-after-ms", "x-should-retry",
                           "X-Deadline-Exceeded-By-Ms", "Cache-Control", "X-Accel-Buffering"})
    if (const auto value = headers.get(name)) r.response.headers.add(name, *value);
  if (const auto id = headers.get("X-Llorch-Response-Id"); id && status == 200 && r.on_stored) r.on_stored(*id);
  r.stream = AnswerStream(r.response.content_type.starts_with("application/x-ndjson"));
  r.streamed = r.stream.lines() || r.response.content_type.starts_with("text/event-stream");
  if (!r.streamed) return;
  if (r.keep && status == 200) {
    auto kept = r.keep(said_of_sampling(headers));
    if (!kept) r.refused = kept.error();
    if (!kept) return give_up(r, done, *r.refused);
    r.kept = *std::move(kept);
    return;
  }
  c->decorate(r.response.headers);
  c->exchange->start(r.response);
  c->streamed(status);
}

void take_bytes(const ContextPtr& c, Relayed& r, std::string_view bytes, const Done& done) {
  if (!r.streamed) {
    if (r.response.body.size() + bytes.size() <= kAnswerBytesMax) return void(r.response.body += bytes);
    r.refused = Error{ErrorCode::kInferenceFailed, "the worker's answer is longer than 32 MiB"};
    r.response.body = {};
    return give_up(r, done, *r.refused);
  }
  *r.tokens += r.stream.add(bytes);
  if (r.kept) {
    const Status taken = r.kept->add(bytes);
    if (!taken) r.refused = taken.error();
    return taken ? void() : give_up(r, done, *r.refused);
  }
  c->exchange->write(std::string(bytes));
  if (c->exchange->unsent() <= kUnsentMax) return;
  r.refused = Error{ErrorCode::kInferenceFailed, "the client does not take its stream: 8 MiB of it wait"};
  service::log(service::Level::kWarn, "slow_reader", r.refused->message,
               {{"correlation_id", c->correlation_id}, {"route", c->route}, {"principal", c->principal.label()}});
  give_up(r, done, *r.refused);
  c->exchange->abort();
}

/// One try. Errors only when nothing has been answered yet, or in the middle of a stream.
Step<bool> relay(const FlowPtr& flow, const ContextPtr& c, net::ClientRequest call, const std::shared_ptr<Relayed>& r) {
  return {flow, [flow, c, r, call = std::move(call)](const Done& done) -> std::any {
            net::ClientCallbacks on;
            on.on_head = [flow, c, r, done](int status, const net::Headers& headers) {
              if (flow->cancelled() || r->over) return;
              r->pulse->beat();
              take_head(c, *r, status, headers, done);
            };
            on.on_data = [flow, c, r, done](std::string_view bytes) {
              if (flow->cancelled() || r->over) return;
              r->pulse->beat();
              take_bytes(c, *r, bytes, done);
            };
            on.on_end = [done](Status s) {
              if (!s) return done(std::unexpected(std::move(s).error()));
              done(true);
            };
            return std::make_shared<net::Call>(net::start_call(flow->loop(), call, std::move(on)));
          }};
}

/// The same, given up when the worker hangs.
Step<bool> watched_relay(const FlowPtr& flow, Queen& q, const ContextPtr& c, const Placed& at, net::ClientRequest call,
                         const std::shared_ptr<Relayed>& r) {
  Call<bool> start = [c, r, call = std::move(call)](const FlowPtr& inner) { return relay(inner, c, call, r); };
  return watched<bool>(flow, q.watch_worker(at, r->pulse), std::move(start));
}

/// The name of the API's operation, as workers have it.
std::string_view operation_of(std::string_view route) {
  if (route.starts_with("/api/")) return route.substr(1);
  return route.substr(route.rfind('/') + 1);  // "messages", "responses"
}

/// A stream that ends without its end says why (J-63).
void cut_off(const ContextPtr& c, const Relayed& r, const Error& why) {
  if (r.stream.lines()) {
    const boost::json::object line = wire::error_event_of(operation_of(c->route), why, 0);
    c->exchange->write((r.stream.empty() || r.stream.ends_with("\n") ? "" : "\n") + boost::json::serialize(line) +
                       "\n");
    return c->exchange->finish();
  }
  if (!r.stream.empty() && !r.stream.ends_with("\n\n")) c->exchange->write("\n\n");  // it ended within an event
  const std::string_view operation = operation_of(c->route);
  const bool named = operation == "messages" || operation == "responses";
  const boost::json::object error = wire::error_event_of(operation, why, 0);
  c->exchange->write(net::sse_frame(0, named ? "error" : "", boost::json::serialize(error)));
  c->exchange->finish();
}

/// A request that was let in, until it was answered.
struct Served {
  ContextPtr c;
  PlacementPtr placing;
  std::string method;
  std::string body;  // of POST: JSON, without its model
  Deadline deadline;
  OpenRequestPtr open;
  service::ReservedKey key;

  void fail(const Error& error) {
    open->failed(error.code);
    if (c->exchange->alive()) c->fail(error);
  }
  /// A client that closes once it has everything has left nothing undone.
  void left(const Relayed& r) const {
    if (r.refused)
      open->failed(r.refused->code);
    else if (r.streamed && r.whole())
      open->completed();
    else
      open->cancelled();
  }
  /// One whose client may be here or not. `lost`: why the worker's stream ended, if it did not by itself.
  void end_kept(Relayed& r, const Status& lost) {
    const bool whole = lost && r.whole() && !r.refused;
    const Error cut{ErrorCode::kWorkerCrashed, "the worker's stream ended in the middle of the answer"};
    const Error why = r.refused ? *r.refused : !lost ? lost.error() : cut;
    whole ? open->completed() : why.code == ErrorCode::kCancelled ? open->cancelled() : open->failed(why.code);
    r.kept->end(whole || (lost && r.stream.tells_error()) ? Status() : std::unexpected(why));
  }
  void reply(Relayed& r) {
    if (r.whole())
      open->completed();
    else
      open->failed(ErrorCode::kWorkerCrashed);
    if (!r.streamed) {
      if (r.whole()) key.answered({{}, r.response});
      c->reply(std::move(r.response));
    } else if (r.whole() || r.stream.tells_error()) {
      c->exchange->finish();
    } else {
      cut_off(c, r, {ErrorCode::kWorkerCrashed, "the worker's stream ended in the middle of the answer"});
    }
  }
};
using ServedPtr = std::shared_ptr<Served>;

/// `body` is the text of an object.
std::string with_model(const std::string& body, const std::string& model) {
  const std::string field = "{\"model\":" + boost::json::serialize(boost::json::string(model));
  return field + (body == "{}" ? "}" : "," + body.substr(1));
}

net::ClientRequest request_to(const Served& s, const Placed& at) {
  const ContextPtr& c = s.c;
  net::ClientRequest call;
  call.method = s.method;
  net::UrlPath path = net::url_path(c->request.target.path);
  if (s.method == "GET")  // a page of a list
    for (const auto& [name, value] : c->request.target.query) path.query(name, value);
  call.url = at.worker.base.below(path.text()), call.tls_name = at.worker.tls_name;
  if (!at.worker.token.empty()) call.headers.add("Authorization", "Bearer " + at.worker.token);
  call.headers.add("X-Correlation-Id", c->correlation_id);
  if (!c->traceparent.empty()) call.headers.add("traceparent", c->traceparent);
  if (!s.deadline.header.empty()) call.headers.add("X-Deadline", s.deadline.header);
  if (const auto key = c->request.headers.get("Idempotency-Key"))
    call.headers.add("Idempotency-Key", security::sha256_hex(c->principal.id + "|" + *key));
  if (s.method == "POST") {
    call.headers.add("Content-Type", "application/json");
    call.body = with_model(s.body, at.model);
  }
  call.idle_timeout = std::chrono::seconds(600);  // a whole answer may take its time; a stream has comments
  return call;
}

/// Whatever listens at a worker's port: its answer is an object, or it is none. The tokens that it tells of; nothing
/// where it is no object.
std::optional<std::int64_t> read_answer(const std::string& text) {
  boost::system::error_code problem;
  const auto value = boost::json::parse(text, problem);
  if (problem || !value.is_object()) return std::nullopt;
  return tokens_of(value.get_object()).value_or(0);
}

/// An answer that came whole, looked at before it counts as one. Errors: kWorkerCrashed.
Procedure check_answer(FlowPtr flow, Queen& q, std::shared_ptr<Relayed> r, Done done) {
  constexpr std::size_t kShortAnswerBytes = 64u << 10;
  Result<std::optional<std::int64_t>> read = std::nullopt;
  if (r->response.body.size() <= kShortAnswerBytes) {
    read = read_answer(r->response.body);
  } else {
    auto work = [r] { return read_answer(r->response.body); };
    auto looking = service::in_background(flow, q.intake().background(), work);
    read = co_await looking;
  }
  if (!read) r->refused = read.error();  // that is no fault of the worker's
  if (!read) co_return done(std::unexpected(read.error()));
  if (!*read) co_return done(fail(ErrorCode::kWorkerCrashed, "the worker's answer is no JSON object"));
  *r->tokens += **read;
  done(true);
}

/// A try to its end.
Procedure attempt_relay(FlowPtr flow, Queen& q, ServedPtr s, Placed at, std::shared_ptr<Relayed> r, Done done) {
  auto step = watched_relay(flow, q, s->c, at, request_to(*s, at), r);
  auto outcome = co_await step;
  if (r->streamed) *r->tokens += r->stream.correction();
  if (!outcome || r->streamed || r->refused) co_return done(std::move(outcome));
  check_answer(flow, q, r, std::move(done));
}

/// What a client is told of a try that failed.
Error went_away(const FlowPtr& flow, const Error& why) {
  if (flow->cancelled()) return *flow->cancelled();
  if (why.code == ErrorCode::kWorkerUnhealthy || why.code == ErrorCode::kWorkerCrashed) return why;
  return {ErrorCode::kWorkerCrashed, "the worker went away in the middle of the answer"};
}

/// Whether a chat completion's client means to come back where its connection is lost.
bool is_resumable(const service::Context& c) {
  return c.route.ends_with("/chat/completions") && c.request.headers.get("X-Resumable") == "1";
}

Procedure serve(FlowPtr flow, Queen& q, ServedPtr s) {
  const ContextPtr c = s->c;
  for (int tries = 1;; ++tries) {
    auto place = q.placer().place(flow, s->placing);
    auto in_time = q.admission().guard(flow, s->deadline);
    auto placed = co_await place;
    in_time.cancel();
    if (!c->exchange->alive()) co_return s->open->cancelled();
    if (!placed) co_return s->fail(placed.error());
    const auto r = std::make_shared<Relayed>();
    r->tokens = placed->seat->tokens();
    r->on_stored = [&q, c, where = StoredResponses::Where{placed->hive_id, placed->worker_id, s->placing->ref}](
                       const std::string& id) { q.responses().remember(c->principal.id, id, where); };
    if (is_resumable(*c))
      r->keep = [&q, c, flow](net::Headers headers) {
        return KeptAnswer::begin(q.desk(), c, flow, std::move(headers));
      };
    q.metrics().connections.Increment();
    Step<bool> trying{flow, [&](Done then) -> std::any {
                        attempt_relay(flow, q, s, *placed, r, std::move(then));
                        return {};
                      }};
    const auto outcome = co_await trying;
    q.metrics().connections.Decrement();
    q.metrics().dispatched(outcome ? "completed" : std::string(name(outcome.error().code)));
    placed->seat.reset();
    if (r->kept) co_return s->end_kept(*r, outcome ? Status() : std::unexpected(went_away(flow, outcome.error())));
    if (!c->exchange->alive()) co_return s->left(*r);
    if (r->refused) co_return s->fail(*r->refused);
    if (outcome && r->streamed) co_return s->reply(*r);
    const bool again = q.options().retry_enabled && tries < q.options().retry_attempts && !flow->cancelled();
    const bool busy = r->response.status == 429 || r->response.status == 503;
    if (outcome && (!busy || !again)) co_return s->reply(*r);
    if (!outcome && !flow->cancelled() && outcome.error().code != ErrorCode::kWorkerUnhealthy)
      q.forget_worker(placed->hive_id, placed->worker_id);
    if (!outcome && r->streamed) {
      const Error why = went_away(flow, outcome.error());
      s->open->failed(why.code);
      co_return cut_off(c, *r, why);
    }
    if (!again) co_return s->fail(went_away(flow, outcome.error()));
    auto wait = service::pause(flow, q.options().retry_pause(tries));
    if (const auto waited = co_await wait; !waited) co_return s->fail(waited.error());
  }
}

/// A body, read on whatever thread.
struct Read {
  std::optional<std::string> model, previous;  // previous: the response that it goes on from
  std::string device;                          // where it is to run; empty: anywhere
  boost::json::value deadline_ms;
  std::string rest;  // JSON, without the two
  std::optional<Error> flaw;
  std::string field;  // of the flaw
  std::string hash;   // of the whole body, where a key came with it
};
using ReadPtr = std::shared_ptr<Read>;

void read_body(const service::Context& c, Read& out) {
  auto body = wire::parse_body(c.request.body);
  if (!body) return void(out.flaw = body.error());
  if (c.request.headers.get("Idempotency-Key")) out.hash = security::sha256_hex(c.request.body);
  out.model = json::find_text(*body, "model");
  if (out.model && c.route.starts_with("/api/")) out.model = std::string(wire::untagged(*out.model));
  if (!out.model) {
    out.flaw = Error{ErrorCode::kInvalidRequest, "model is required"}, out.field = "model";
    return;
  }
  if (operation_of(c.route) == "responses") out.previous = json::find_text(*body, "previous_response_id");
  if (const auto bad = salt_cache(*body, c.principal.id)) {
    out.flaw = bad->error, out.field = bad->field;
    return;
  }
  if (const auto* v = body->if_contains("device")) {
    const auto device = colony::parse_device(v->is_string() ? std::string_view(v->get_string()) : "");
    if (!device) {
      out.flaw = device.error(), out.field = "device";
      return;
    }
    out.device = *device;
    body->erase("device");
  }
  if (auto* v = body->if_contains("deadline_ms")) out.deadline_ms = std::move(*v);
  body->erase("deadline_ms"), body->erase("model");
  out.rest = boost::json::serialize(*body);
}

/// Of this key, on a worker that is still there; null, when the client was told so.
const StoredResponses::Where* find_stored(Queen& q, const ContextPtr& c, const std::string& id,
                                          std::string_view field) {
  const auto* where = q.responses().find(c->principal.id, id);
  const HiveEntry* hive = where ? q.hives().find(where->hive_id) : nullptr;
  if (hive && std::ranges::any_of(hive->workers, [&](const auto& w) { return w.worker_id == where->worker_id; }))
    return where;
  c->fail({ErrorCode::kNotFound, where ? "the worker that kept this response has ended"
                                       : "there is no such response (it may have been displaced)"},
          {}, std::string(field));
  return nullptr;
}

PlacementPtr placement(const ContextPtr& c, colony::ModelRef ref, colony::ModelAccess access) {
  auto placing = std::make_shared<Placement>();
  placing->wanted.model = ref.text(), placing->ref = std::move(ref), placing->access = access;
  placing->report = [id = c->correlation_id](std::string_view action, const std::string& human) {
    service::log(service::Level::kInfo, action, human, {{"correlation_id", id}});
  };
  placing->correlation_id = c->correlation_id;
  placing->relay = [](std::string_view, const boost::json::object&) {};
  return placing;
}

/// On the worker that keeps it.
void stay_at(Placement& placing, const StoredResponses::Where& where) {
  placing.wanted.hive = where.hive_id, placing.wanted.worker_id = where.worker_id;
}

void start(Queen& q, Served served) {
  const auto flow = q.gate().flow();
  served.c->exchange->on_gone = [flow] { flow->cancel({ErrorCode::kCancelled, "the client has left"}); };
  serve(flow, q, std::make_shared<Served>(std::move(served)));
}

void accept(Queen& q, const ContextPtr& c, const ReadPtr& in) {
  Read& body = *in;
  if (body.flaw) return c->fail(*body.flaw, {}, body.field);
  const std::function<void()> again = [&q, c, in] {
    if (c->exchange->alive()) accept(q, c, in);
  };
  service::ReservedKey key;  // of a stream until its end: whoever repeats it is sent to the worker, which has its log
  if (!q.intake().reserve(c, body.hash, key, again)) return;
  auto resolved = q.resolve(*body.model, c->principal);
  if (!resolved) return c->fail(not_found_of(resolved.error()), {}, "model");
  Deadline deadline;
  if (!q.admission().take_deadline(c, body.deadline_ms, deadline)) return;
  const StoredResponses::Where* stored = nullptr;
  if (body.previous) {
    stored = find_stored(q, c, *body.previous, "previous_response_id");
    if (!stored) return;
    if (stored->ref.text() != resolved->ref.text())
      return c->fail({ErrorCode::kUnsupportedValue, "the response that this goes on from is another model's"}, {},
                     "previous_response_id");
  }
  auto open = q.admission().admit(c, false);
  if (!open) return;
  const PlacementPtr placing = placement(c, std::move(resolved->ref), resolved->access);
  placing->wanted.device = body.device;
  if (stored) stay_at(*placing, *stored);
  start(q, {c, placing, "POST", std::move(body.rest), std::move(deadline), std::move(open), std::move(key)});
}

/// GET and DELETE of a stored response.
void ask_for_stored(Queen& q, const ContextPtr& c, const std::string& method) {
  const std::string& id = c->parameters[0];
  const auto* stored = find_stored(q, c, id, {});
  if (!stored) return;
  const auto resolved = q.resolve(stored->ref.text(), c->principal);
  if (!resolved) return c->fail(colony::no_such_model(), {}, "model");
  Deadline deadline;
  if (!q.admission().take_deadline(c, {}, deadline)) return;
  auto open = q.admission().admit(c, false);
  if (!open) return;
  const PlacementPtr placing = placement(c, stored->ref, resolved->access);
  stay_at(*placing, *stored);
  if (method == "DELETE") q.responses().erase(c->principal.id, id);
  start(q, {c, placing, method, {}, std::move(deadline), std::move(open), {}});
}

void begin(Queen& q, const ContextPtr& c) {
  const auto body = std::make_shared<Read>();
  q.intake().prepare(
      c, [c, body] { read_body(*c, *body); }, [&q, c, body] { accept(q, c, body); });
}

}  // namespace

void add_route_openai(Queen& q) {
  using service::Scope;
  auto& r = q.front().router();
  // Ollama's: what she answers herself is in ollama.cc.
  r.route<Scope::kInfer>("POST", "/api/chat", [&q](const ContextPtr& c) { begin(q, c); });
  r.route<Scope::kInfer>("POST", "/api/generate", [&q](const ContextPtr& c) { begin(q, c); });
  r.route<Scope::kInfer>("POST", "/api/embed", [&q](const ContextPtr& c) { begin(q, c); });
  r.route<Scope::kInfer>("POST", "/api/embeddings", [&q](const ContextPtr& c) { begin(q, c); });
  for (const std::string prefix : {"/v1", ""}) {
    for (const char* path : {"/chat/completions", "/completions", "/embeddings", "/responses", "/messages",
                             "/messages/count_tokens", "/tokenize", "/detokenize", "/rerank"})
      r.route<Scope::kInfer>("POST", prefix + path, [&q](const ContextPtr& c) { begin(q, c); });
    r.route<Scope::kInfer>("GET", prefix + "/responses/{}", [&q](const ContextPtr& c) { ask_for_stored(q, c, "GET"); });
    r.route<Scope::kInfer>("GET", prefix + "/responses/{}/input_items",
                           [&q](const ContextPtr& c) { ask_for_stored(q, c, "GET"); });
    r.route<Scope::kInfer>("DELETE", prefix + "/responses/{}",
                           [&q](const ContextPtr& c) { ask_for_stored(q, c, "DELETE"); });
  }
}

}  // namespace llorch::queen
