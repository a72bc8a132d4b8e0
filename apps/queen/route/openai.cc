// OpenAI's API for the whole colony: a request finds its worker, and the worker's answer comes back byte for byte
// (J-50).
#include "format/json.h"
#include "queen/cache_salt.h"
#include "queen/queen.h"
#include "security/digest.h"
#include "service/log.h"
#include "wire/fields.h"

namespace llorch::queen {
namespace {

using service::ContextPtr;
using service::FlowPtr;
using service::Procedure;
using service::Step;

/// What a worker's answer has brought so far.
struct Relayed {
  bool begun = false, streamed = false;
  net::Response response;
};

void take_head(const ContextPtr& c, Relayed& r, int status, const net::Headers& headers) {
  r.begun = true;
  r.response.status = status;
  r.response.content_type = headers.get("Content-Type").value_or("application/json");
  for (const char* name : {"X-Llorch-Ignored", "Retry-After", "retry-after-ms", "x-should-retry",
                           "X-Deadline-Exceeded-By-Ms", "Cache-Control", "X-Accel-Buffering"})
    if (const auto value = headers.get(name)) r.response.headers.add(name, *value);
  r.streamed = r.response.content_type.starts_with("text/event-stream");
  if (!r.streamed) return;
  c->decorate(r.response.headers);
  c->exchange->start(r.response);
  c->streamed(status);
}

/// One try. Errors only when nothing has been answered yet.
Step<bool> relay(const FlowPtr& flow, const ContextPtr& c, const service::Peer& worker, const std::string& body,
                 const Deadline& deadline, const std::shared_ptr<Relayed>& r) {
  net::ClientRequest call;
  call.method = "POST";
  call.url = worker.base.below(c->route);
  call.headers.add("Content-Type", "application/json");
  if (!worker.token.empty()) call.headers.add("Authorization", "Bearer " + worker.token);
  call.headers.add("X-Correlation-Id", c->correlation_id);
  if (!c->traceparent.empty()) call.headers.add("traceparent", c->traceparent);
  if (!deadline.header.empty()) call.headers.add("X-Deadline", deadline.header);
  if (const auto key = c->request.headers.get("Idempotency-Key"))
    call.headers.add("Idempotency-Key", security::sha256_hex(c->principal.id + "|" + *key));
  call.body = body;
  call.idle_timeout = std::chrono::seconds(600);  // a whole answer may take its time; a stream has comments
  return {flow, [flow, c, r, call = std::move(call)](const Step<bool>::Done& done) -> std::any {
            return std::make_shared<net::Call>(net::start_call(
                flow->loop(), call,
                {.on_head = [c, r](int status, const net::Headers& headers) { take_head(c, *r, status, headers); },
                 .on_data =
                     [c, r](std::string_view bytes) {
                       if (r->streamed)
                         c->exchange->write(std::string(bytes));
                       else
                         r->response.body += bytes;
                     },
                 .on_end =
                     [done](Status s) {
                       if (!s) return done(std::unexpected(std::move(s).error()));
                       done(true);
                     }}));
          }};
}

Procedure serve(FlowPtr flow, Queen& q, ContextPtr c, PlacementPtr placing, boost::json::object body,
                Deadline deadline) {
  for (int tries = 1;; ++tries) {
    auto place = q.placer().place(flow, placing);
    auto in_time = q.admission().guard(flow, deadline);
    auto placed = co_await place;
    in_time.cancel();
    if (!c->exchange->alive()) co_return;
    if (!placed) co_return c->fail(placed.error());
    body["model"] = placed->model;
    const std::string text = boost::json::serialize(body);
    const auto r = std::make_shared<Relayed>();
    q.metrics().connections.Increment();
    auto step = relay(flow, c, placed->worker, text, deadline, r);
    const auto outcome = co_await step;
    q.metrics().connections.Decrement();
    q.metrics().dispatched(outcome ? "completed" : std::string(name(outcome.error().code)));
    placed->seat.reset();
    if (!c->exchange->alive()) co_return;
    if (outcome && r->streamed) co_return c->exchange->finish();
    const bool again = q.options().retry_enabled && tries < q.options().retry_attempts;
    const bool busy = r->response.status == 429 || r->response.status == 503;
    if (outcome && (!busy || !again)) co_return c->reply(std::move(r->response));
    if (!outcome && r->streamed) {  // the answer is cut off: say so, and no [DONE] (J-63)
      const boost::json::object error{{"error",
                                       {{"code", "WORKER_CRASHED"},
                                        {"message", "the worker went away in the middle of the answer"},
                                        {"type", "overloaded"}}}};
      c->exchange->write(net::sse_frame(0, "", boost::json::serialize(error)));
      co_return c->exchange->finish();
    }
    if (!outcome) q.forget_worker(placed->hive_id, placed->worker_id);
    if (!again) co_return c->fail({ErrorCode::kWorkerCrashed, "the worker went away"});
    auto wait = service::pause(flow, q.options().retry_pause(tries));
    if (const auto waited = co_await wait; !waited) co_return;
  }
}

void accept(Queen& q, const ContextPtr& c) {
  auto body = wire::parse_body(c->request.body);
  if (!body) return c->fail(body.error());
  const auto model = json::find_text(*body, "model");
  if (!model) return c->fail({ErrorCode::kInvalidRequest, "model is required"}, {}, "model");
  auto resolved = q.resolve(*model, c->principal);
  if (!resolved) return c->fail(colony::no_such_model(), {}, "model");
  Deadline deadline;
  if (const auto bad = salt_cache(*body, c->principal.id)) return c->fail(bad->error, {}, bad->field);
  if (!q.admission().take_deadline(c, *body, deadline) || !q.admission().admit(c, false)) return;
  const auto placing = std::make_shared<Placement>();
  placing->wanted.model = resolved->ref.text(), placing->ref = std::move(resolved->ref),
  placing->access = resolved->access;
  placing->report = [id = c->correlation_id](std::string_view action, const std::string& human) {
    service::log(service::Level::kInfo, action, human, {{"correlation_id", id}});
  };
  placing->correlation_id = c->correlation_id;
  placing->relay = [](std::string_view, const boost::json::object&) {};
  const auto flow = q.gate().flow();
  c->exchange->on_gone = [flow] { flow->cancel({ErrorCode::kCancelled, "the client has left"}); };
  serve(flow, q, c, placing, *std::move(body), std::move(deadline));
}

}  // namespace

void add_route_openai(Queen& q) {
  using service::Scope;
  auto& r = q.front().router();
  for (const std::string prefix : {"/v1", ""}) {
    for (const char* path : {"/chat/completions", "/completions", "/embeddings"})
      r.route<Scope::kInfer>("POST", prefix + path, [&q](const ContextPtr& c) { accept(q, c); });
    r.route<Scope::kInfer>("GET", prefix + "/models", [&q](const ContextPtr& c) {
      c->reply(200, {{"object", "list"}, {"data", models(q.hives())}});
    });
    r.route<Scope::kInfer>("GET", prefix + "/models/{}", [&q](const ContextPtr& c) {
      const auto resolved = q.resolve(c->parameters[0], c->principal);
      for (const auto& m : models(q.hives()))
        if (resolved && m.at("id") == boost::json::string(resolved->ref.text())) return c->reply(200, m);
      c->fail(colony::no_such_model(), {}, "model");
    });
  }
}

}  // namespace llorch::queen
