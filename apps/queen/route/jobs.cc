// POST /v1/jobs: infer, and everything that a hive can be told.
#include "base/clock.h"
#include "colony/facts.h"
#include "colony/operations.h"
#include "format/json.h"
#include "queen/aliases.h"
#include "queen/cache_salt.h"
#include "queen/fellows.h"
#include "queen/kept_answer.h"
#include "queen/queen.h"
#include "security/digest.h"
#include "security/validate.h"
#include "service/job_routes.h"
#include "wire/fields.h"
#include "wire/structure.h"

namespace llorch::queen {
namespace {

using service::ContextPtr;
using service::FlowPtr;
using service::Procedure;
using service::Task;
using service::TaskPtr;

constexpr const char* kPrefix = "/v1/jobs";
/// Fields of the worker's own request that pass through.
constexpr std::string_view kSampling[] = {
    "max_tokens",       "temperature",       "top_p",  "top_k", "min_p",    "repetition_penalty",
    "presence_penalty", "frequency_penalty", "stop",   "seed",  "logprobs", "top_logprobs",
    "ignore_eos",       "cache_salt",        "receipt"};

struct InferOrder {
  Requirements wanted;
  ResolvedModel model;
  bool names_models = false;  // its success leaves an alias behind
  boost::json::object body;   // for the worker; without prompt and messages
  std::string prompt;         // empty where there are messages
  std::string text;           // JSON: what the worker is sent
  std::optional<std::string> model_name;
  std::vector<wire::Violation> violations;
  bool raw = false, stream = true, batch = false, resumable = false;
  Deadline deadline;
};

/// A body, read on whatever thread, and what becomes of it.
struct Incoming {
  boost::json::object body;
  std::optional<Error> flaw;
  std::string hash, operation;
  boost::json::value deadline_ms;
  std::shared_ptr<InferOrder> infer;
  service::ReservedKey key;
  SharedClaims::ClaimPtr claim;  // of that key at the other queens
};
using IncomingPtr = std::shared_ptr<Incoming>;

/// What a worker's stream has said so far.
struct WorkerReply {
  std::string text;
  std::optional<Error> error;
  boost::json::object end;
  std::int64_t tokens = 0;
  bool started = false;
};

constexpr std::size_t kTextBytesMax = 64u << 20;  // of an answer that is kept whole

/// A job that has more than it can keep ends; its flow calls off what others do for it. True: it has ended.
bool end_if_full(Task& t, std::size_t text_bytes = 0) {
  if (t.job->finished()) return true;
  if (!t.job->log.full() && text_bytes <= kTextBytesMax) return false;
  const Error why{ErrorCode::kInferenceFailed, "the answer is longer than what is kept for its reader"};
  t.fail(why);
  t.flow->cancel(why);
  return true;
}

bool worth_another_try(const Error& e) {
  return kind(e.code).retriable || e.code == ErrorCode::kIo || e.code == ErrorCode::kWorkerUnhealthy;
}

/// A worker that hangs, or whose machine does, is given up before its first word.
service::Step<service::JsonAnswer> ask_worker(const FlowPtr& flow, Queen& q, const Placed& at, service::Asked request) {
  Call<service::JsonAnswer> call = [worker = at.worker, request = std::move(request)](const FlowPtr& inner) {
    return service::ask(inner, worker, request);
  };
  return watched<service::JsonAnswer>(flow, q.watch_worker(at, {}), std::move(call));
}

/// The worker's stream to its end. One that hangs, or whose machine does, is given up; a stream that pauses is not.
/// `place`: where the worker has put the job on its feed.
service::Step<bool> follow_worker(const FlowPtr& flow, Queen& q, const Placed& at, std::string url,
                                  service::RemoteFeed::PlacePtr place, service::OnEvent on_event,
                                  service::OnLine on_line) {
  const auto pulse = std::make_shared<Pulse>();
  const service::OnLine on_any = [pulse, on_line = std::move(on_line)](std::string_view type, const std::string& json) {
    pulse->beat();
    return on_line(type, json);
  };
  Call<bool> call = [worker = at.worker, url = std::move(url), place = std::move(place), on_event = std::move(on_event),
                     on_any](const FlowPtr& inner) mutable {
    return place ? service::follow(inner, place, on_event, on_any)
                 : service::follow(inner, worker, url, on_event, on_any);
  };
  return watched<bool>(flow, q.watch_worker(at, pulse), std::move(call));
}

/// What a worker is sent: a prompt goes as one user message where the model has a chat template.
std::string worker_body(const InferOrder& o, bool has_template) {
  boost::json::object body = o.body;
  if (o.raw || !has_template)
    body["prompt"] = o.prompt;
  else
    body["messages"] = boost::json::array{{{"role", "user"}, {"content", o.prompt}}};
  return boost::json::serialize(body);
}

Procedure send(FlowPtr flow, Queen& q, Placed at, std::shared_ptr<InferOrder> o, std::string correlation_id,
               std::string feed, service::Step<service::JsonAnswer>::Done done) {
  service::Asked asked("POST", "/v1/inference", o->text);
  asked.headers.add("X-Correlation-Id", correlation_id);
  if (!o->deadline.header.empty()) asked.headers.add("X-Deadline", o->deadline.header);
  if (!feed.empty()) asked.headers.add(service::kFeedHeader, feed);
  auto first = ask_worker(flow, q, at, asked);
  auto answer = co_await first;
  if (answer && !o->prompt.empty() && !o->raw)
    if (const Status s = service::check(*answer); !s && s.error().code == ErrorCode::kChatTemplateMissing) {
      auto work = [o] { return worker_body(*o, false); };
      auto text = co_await service::in_background(flow, q.background(), work);
      if (!text) co_return done(std::unexpected(text.error()));
      asked.body = *std::move(text);
      auto second = ask_worker(flow, q, at, asked);
      answer = co_await second;
    }
  done(std::move(answer));
}

/// One try on one worker: its stream is relayed as it comes.
Procedure attempt(TaskPtr t, Queen& q, std::shared_ptr<InferOrder> o, Placed at, std::shared_ptr<WorkerReply> reply,
                  service::Step<bool>::Done done) {
  const FlowPtr flow = t->flow;
  t->narrate("dispatch", fmt::format("sending the prompt to {} on {}", at.worker_id, at.hive_id),
             {{"worker_id", at.worker_id}, {"hive_id", at.hive_id}, {"model_ref", o->wanted.model}});
  const std::string correlation_id = t->job->options.correlation_id;
  WorkerFeeds::Ticket ticket = q.feeds().enter(at.worker);
  const std::string feed = ticket.place ? ticket.place->header() : "";
  service::Step<service::JsonAnswer> sending{flow, [&](service::Step<service::JsonAnswer>::Done then) -> std::any {
                                               send(flow, q, at, o, correlation_id, feed, std::move(then));
                                               return {};
                                             }};
  const auto made = co_await sending;
  if (!made) co_return done(std::unexpected(made.error()));
  if (const Status s = service::check(*made); !s) co_return done(std::unexpected(s.error()));
  const auto* object = made->body.if_object();
  const auto url = object ? json::find_text(*object, "sse_url") : std::nullopt;
  const auto id = object ? json::find_text(*object, "job_id") : std::nullopt;
  if (!url || !id) co_return done(fail(ErrorCode::kInternal, "the worker's answer lacks job_id or sse_url"));
  if (!net::is_request_target(*url)) co_return done(fail(ErrorCode::kIo, "the worker's sse_url is no path"));
  const std::weak_ptr<Task> weak = t;
  const auto tokens = at.seat->tokens();
  service::OnEvent on_event = [weak, reply, tokens, &q, at](std::string_view type, const boost::json::object& data) {
    const TaskPtr task = weak.lock();
    if (!task || end_if_full(*task, reply->text.size())) return;
    if (type == "started") {
      if (std::exchange(reply->started, true)) return;
      boost::json::object o2 = data;
      o2["worker_id"] = at.worker_id, o2["hive_id"] = at.hive_id;
      q.metrics().started.Increment();
      if (JobRow* row = q.ledger().find(task->job->id)) {
        row->status = "running", row->started_ms = unix_ms();
        q.ledger().save(*row);
      }
      task->start(std::move(o2));
    } else if (type == "token") {
      ++reply->tokens, ++*tokens;
      reply->text += json::find_text(data, "t").value_or("");
      task->event(type, data);
    } else if (type == "end") {
      reply->end = data;
    } else if (type == "error") {
      reply->error = Error{service::code_of(json::find_text(data, "code").value_or("")),
                           json::find_text(data, "message").value_or("the worker failed")};
    } else {
      task->event(type, data);
    }
  };
  // Tokens are most of a stream, and need not be read to be passed on.
  const service::OnLine on_line = [weak, reply, tokens, stream = o->stream](std::string_view type,
                                                                            const std::string& json) {
    const TaskPtr task = type == "token" && stream ? weak.lock() : nullptr;
    if (!task) return false;
    if (end_if_full(*task)) return true;
    if (!task->relay(type, json)) return false;
    ++reply->tokens, ++*tokens;
    return true;
  };
  const auto* fed = object->if_contains("fed");
  if (!fed || *fed != true) ticket.place = nullptr;
  if (ticket.place) q.metrics().fed.Increment();
  q.metrics().connections.Increment();
  auto following = follow_worker(flow, q, at, *url, ticket.place, on_event, on_line);
  const auto followed = co_await following;
  q.metrics().connections.Decrement();
  if (!followed) {
    if (flow->cancelled()) {
      // Its reader's leaving cancels the worker's job; this says so at once.
      call_off(q.gate().errand(), at.worker, net::url_path("/v1/inference").segment(*id));
    }
    co_return done(std::unexpected(followed.error()));
  }
  if (reply->error) co_return done(std::unexpected(*reply->error));
  done(true);
}

/// Events of a hive's job become the task's.
Relay relay_to(const TaskPtr& t) {
  return [weak = std::weak_ptr<Task>(t)](std::string_view type, const boost::json::object& data) {
    const auto task = weak.lock();
    if (task && !end_if_full(*task)) task->event(type, data);
  };
}

/// What happens while a request is placed is the task's narration.
void report_to(Placement& p, const TaskPtr& t) {
  p.correlation_id = t->job->options.correlation_id;
  p.report = [weak = std::weak_ptr<Task>(t)](std::string_view action, const std::string& human) {
    if (const auto task = weak.lock()) task->narrate(action, human);
  };
  p.relay = relay_to(t);
}

Procedure infer(TaskPtr t, Queen& q, std::shared_ptr<InferOrder> o) {
  const auto placing = std::make_shared<Placement>();
  placing->wanted = o->wanted, placing->batch = o->batch;
  placing->ref = o->model.ref, placing->access = o->model.access;
  report_to(*placing, t);
  t->narrate("accepted", fmt::format("a request for {} has come", o->wanted.model));
  for (int tries = 1;; ++tries) {
    auto place = q.placer().place(t->flow, placing);
    auto in_time = q.admission().guard(t->flow, o->deadline);
    auto placed = co_await place;
    in_time.cancel();
    if (!placed) co_return t->fail(placed.error());
    if (JobRow* row = q.ledger().find(t->job->id))
      row->worker_id = placed->worker_id, row->hive_id = placed->hive_id, row->dispatched_ms = unix_ms(),
      row->retries = tries - 1;
    const auto reply = std::make_shared<WorkerReply>();
    const std::string worker_id = placed->worker_id;
    service::Step<bool> trying{t->flow, [&](service::Step<bool>::Done then) -> std::any {
                                 attempt(t, q, o, *placed, reply, std::move(then));
                                 return {};
                               }};
    const auto outcome = co_await trying;
    placed->seat.reset();
    q.metrics().dispatched(outcome ? "completed" : std::string(name(outcome.error().code)));
    if (JobRow* row = q.ledger().find(t->job->id)) row->tokens = reply->tokens;
    if (outcome) {
      t->narrate("complete", fmt::format("{} has answered with {} tokens", worker_id, reply->tokens),
                 {{"worker_id", worker_id}, {"tokens_out", reply->tokens}});
      if (o->names_models && o->wanted.model.starts_with("hf:"))
        give_alias(q, o->model.ref.short_name(), o->wanted.model);
      std::optional<boost::json::value> result;
      if (!o->stream) result = boost::json::value({{"text", reply->text}, {"tokens", reply->tokens}, {"done", true}});
      co_return t->succeed(result, reply->end);
    }
    const Error& error = outcome.error();
    if (t->flow->cancelled()) co_return t->fail(error);
    const bool broke = error.code == ErrorCode::kIo;
    if (broke) q.forget_worker(placed->hive_id, worker_id);
    if (reply->tokens > 0 || tries >= q.options().retry_attempts || !q.options().retry_enabled ||
        !worth_another_try(error))
      co_return t->fail(broke ? Error{ErrorCode::kWorkerCrashed, "the worker went away in the middle of the answer"}
                              : error);
    t->narrate("retry", fmt::format("{} failed before its first token ({}): trying again", worker_id, name(error.code)),
               {{"worker_id", worker_id}, {"error_kind", name(error.code)}});
    auto wait = service::pause(t->flow, q.options().retry_pause(tries));
    if (const auto waited = co_await wait; !waited) co_return t->fail(waited.error());
  }
}

/// An operation of a hive, passed on with all that it says.
Procedure pass_on(TaskPtr t, Queen& q, std::string hive_id, boost::json::object order) {
  t->start();
  if (q.own_hive_is_meant(hive_id)) {
    const auto placing = std::make_shared<Placement>();
    placing->wanted.hive = q.local_hive().id();
    report_to(*placing, t);
    auto waking = q.placer().bring_up_hive(t->flow, placing);
    const auto awake = co_await waking;
    if (!awake) co_return t->fail(awake.error());
  }
  const auto entry = q.find_hive(hive_id);
  if (!entry) co_return t->fail(entry.error());
  const std::string hive = (*entry)->id;
  const auto relay = std::make_shared<Relay>(relay_to(t));
  auto step = q.calls().run(t->flow, hive, std::move(order), relay, t->job->options.correlation_id);
  const auto value = co_await step;
  if (!value) co_return t->fail(value.error());
  t->succeed(*value);
}

Procedure hive_check(TaskPtr t, Queen& q, std::string hive_id) {
  t->start();
  const auto hive = q.find_hive(hive_id);
  if (!hive) co_return t->fail(hive.error());
  const std::string id = (*hive)->id;
  t->narrate("hive_check", fmt::format("asking {} how it is", id));
  const auto health = co_await q.calls().ask(t->flow, id, service::Asked("GET", "/health"));
  if (!health) co_return t->fail(health.error());
  if (const Status s = service::check(*health); !s) co_return t->fail(s.error());
  t->narrate("hive_check", "its health is good");
  const auto info = co_await q.calls().ask(t->flow, id, service::Asked("GET", "/v1/info"));
  if (!info) co_return t->fail(info.error());
  t->narrate("hive_check", "it tells its name and version");
  t->succeed(info->body);
}

/// 202, remembered for whoever comes again with the same key.
void reply_created(const ContextPtr& c, Incoming& in, const Task& t) {
  net::Response response;
  response.status = 202;
  response.body = boost::json::serialize(service::created(*t.job, kPrefix, 0));
  in.key.answered({t.job->id, response});
  if (in.claim) in.claim->answered(response.body);
  c->reply(std::move(response));
}

/// Of any hive; empty: any.
std::string read_device(wire::Fields& f) {
  const auto named = f.text("device", 32);
  if (!named || named->empty()) return {};
  auto device = colony::parse_device(*named);
  if (!device) f.violation("device", "cpu, gpu, cuda:0, ...", device.error().message);
  return device.value_or("");
}

/// Of worker; empty: any.
std::string read_kind(wire::Fields& f) {
  std::string kind = f.text("kind", 32).value_or("");
  if (!kind.empty() && !colony::is_worker_kind(kind))
    f.violation("kind", "cpu, cuda or accelerate", "kind must be cpu, cuda or accelerate");
  return kind;
}

void read_content(wire::Fields& f, InferOrder& o) {
  o.prompt = f.text("prompt", 4 << 20).value_or("");
  const auto* messages = f.take("messages");
  if (messages && !messages->is_array()) f.violation("messages", "array", "messages must be an array");
  const bool has_messages = messages && messages->is_array();
  if (o.prompt.empty() == !has_messages)
    f.violation("prompt", "one of prompt and messages", "exactly one of prompt and messages is required");
  if (!has_messages) return void(o.text = worker_body(o, true));
  boost::json::object body = o.body;
  body["messages"] = *messages;
  o.text = boost::json::serialize(body);
}

/// On whatever thread.
std::shared_ptr<InferOrder> read_infer(const boost::json::object& body, const std::string& principal) {
  wire::Fields f(body);
  (void)f.take("operation"), (void)f.take("job_id");
  const auto o = std::make_shared<InferOrder>();
  o->model_name = f.text("model", 512);
  o->wanted.hive = f.text("hive_id", 64).value_or(""), o->wanted.worker_id = f.text("worker_id", 64).value_or(""),
  o->wanted.device = read_device(f), o->wanted.kind = read_kind(f);
  o->raw = f.boolean("raw").value_or(false), o->stream = f.boolean("stream").value_or(true);
  const auto priority = f.text("priority", 32).value_or("interactive");
  if (priority != "interactive" && priority != "batch")
    f.violation("priority", "interactive or batch", "priority must be interactive or batch");
  o->batch = priority == "batch";
  o->resumable = f.boolean("resumable").value_or(false);
  for (const std::string_view name : kSampling)
    if (const auto* v = f.take(name)) o->body[name] = *v;
  for (const std::string_view name : wire::kStructureFields)
    if (const auto* v = f.take(name)) o->body[name] = *v;
  if (const auto bad = salt_cache(o->body, principal)) f.violation(bad->field, "max_length(256)", bad->error.message);
  read_content(f, *o);
  if (!o->model_name) f.violation("model", "required", "model is required");
  for (const std::string& name : f.unknown())
    f.violation(name, "known field", fmt::format("{} is no field of this operation", name));
  o->violations = f.violations();
  return o;
}

void create_infer(Queen& q, const ContextPtr& c, Incoming& in) {
  const auto o = in.infer;
  if (!q.admission().take_deadline(c, in.deadline_ms, o->deadline)) return;
  if (!o->violations.empty())
    return c->fail(wire::violation_error(o->violations), wire::violation_details(o->violations),
                   o->violations.front().field);
  auto resolved = q.resolve(*o->model_name, c->principal);
  if (!resolved) return c->fail(resolved.error(), {}, "model");
  o->model = *std::move(resolved), o->wanted.model = o->model.ref.text();
  if (const std::string& hive = o->wanted.hive; !hive.empty() && !q.knows_hive(hive))
    return c->fail(q.unknown_hive(hive), {}, "hive_id");
  o->names_models = c->principal.may(service::Scope::kAdmin);
  auto open = q.admission().admit(c, o->batch);
  if (!open) return;
  const TaskPtr t = q.desk().create(c, "infer", o->resumable, true);
  JobRow row;
  row.id = t->job->id, row.principal = c->principal.id, row.operation = "infer", row.status = "queued",
  row.priority = o->batch ? "batch" : "interactive", row.model = o->wanted.model;
  row.prompt_hash = in.hash, row.created_ms = unix_ms();
  q.ledger().begin(std::move(row), std::move(open));
  reply_created(c, in, *t);
  infer(t, q, o);
}

/// A name for a model, which only the queen resolves (H-20).
void create_alias(Queen& q, const ContextPtr& c, Incoming& in, wire::Fields& f) {
  const std::string name = f.text("name", 96).value_or(""), model = f.text("model", 512).value_or("");
  const auto resolved = q.resolve(model, c->principal);
  if (!resolved) return c->fail(resolved.error(), {}, "model");
  const std::string ref = resolved->ref.text();
  if (const Status named = check_alias(name); !named) return c->fail(named.error(), {}, "name");
  const TaskPtr t = q.desk().create(c, "model_alias", true, false);
  reply_created(c, in, *t);
  t->start();
  set_alias(q, name, ref, [t, name, ref](const Result<std::string>& told) {
    if (!told) return t->fail(told.error());
    t->narrate("model_alias", *told);
    t->succeed(boost::json::value{{"name", name}, {"ref", ref}});
  });
}

/// Keeps the workers of a model, or no longer: those that are made from now on, and those that run.
Procedure pin_model(TaskPtr t, Queen& q, std::string model, bool pinned) {
  t->start({{"model", model}});
  const auto kept = co_await q.keep_pin(t->flow, model, pinned);
  if (!kept) co_return t->fail(kept.error());
  std::vector<std::pair<std::string, std::int64_t>> running;  // hive, pid
  for (const HiveEntry* h : q.hives().online())
    for (const auto& w : h->workers)
      if (w.model_ref == model) running.emplace_back(h->id, w.pid);
  const auto relay = std::make_shared<Relay>(relay_to(t));
  for (const auto& [hive, pid] : running) {
    boost::json::object order{{"operation", "worker_pin"}, {"pid", pid}, {"pinned", pinned}};
    auto step = q.calls().run(t->flow, hive, std::move(order), relay, t->job->options.correlation_id);
    const auto told = co_await step;
    if (!told && t->flow->cancelled()) co_return t->fail(told.error());
    if (!told)  // the hive is of an earlier version, or the worker has just ended
      t->narrate("model_pin", fmt::format("{} cannot keep its worker: {}", hive, told.error().message));
  }
  t->succeed(boost::json::value{{"id", model}, {"pinned", pinned}});
}

/// Fields that are unknown or wrong; they are answered.
bool has_flaws(const ContextPtr& c, wire::Fields& f) {
  for (const std::string& name : f.unknown())
    f.violation(name, "known field", fmt::format("{} is no field of this operation", name));
  if (f.violations().empty()) return false;
  c->fail(wire::violation_error(f.violations()), wire::violation_details(f.violations()), f.violations().front().field);
  return true;
}

void create_pin(Queen& q, const ContextPtr& c, Incoming& in, wire::Fields& f) {
  const std::string model = f.text("model", 512).value_or("");
  const bool pinned = f.boolean("pinned").value_or(true);
  if (has_flaws(c, f)) return;
  const auto resolved = q.resolve(model, c->principal);
  if (!resolved) return c->fail(resolved.error(), {}, "model");
  const TaskPtr t = q.desk().create(c, in.operation, true, false);
  reply_created(c, in, *t);
  pin_model(t, q, resolved->ref.text(), pinned);
}

/// Sees to it that a worker with the model runs, fetching and making room as a request would.
Procedure load_model(TaskPtr t, Queen& q, PlacementPtr placing) {
  t->start({{"model", placing->wanted.model}});
  auto step = q.placer().place(t->flow, placing);
  auto placed = co_await step;
  if (!placed) co_return t->fail(placed.error());
  placed->seat.reset();
  t->succeed(boost::json::value{{"id", placing->wanted.model},
                                {"status", "loaded"},
                                {"hive_id", placed->hive_id},
                                {"worker_id", placed->worker_id}});
}

/// Stops every worker with the model, of one hive or of all.
Procedure unload_model(TaskPtr t, Queen& q, std::string model, std::string hive_id) {
  t->start({{"model", model}});
  const auto relay = std::make_shared<Relay>(relay_to(t));
  std::vector<Evictable> victims;
  for (const HiveEntry* h : q.hives().online())
    for (Evictable& w : q.hives().workers_of(h->id, {}))
      if (w.model == model && (hive_id.empty() || h->id == hive_id)) victims.push_back(std::move(w));
  for (const Evictable& v : victims) {
    auto step = q.calls().stop_worker(t->flow, v, relay, t->job->options.correlation_id);
    const auto gone = co_await step;
    if (!gone) co_return t->fail(gone.error());
  }
  t->succeed(boost::json::value{{"id", model}, {"status", "unloaded"}, {"workers_stopped", victims.size()}});
}

void create_load(Queen& q, const ContextPtr& c, Incoming& in, wire::Fields& f) {
  const auto placing = std::make_shared<Placement>();
  const std::string model = f.text("model", 512).value_or(f.text("id", 512).value_or(""));
  placing->wanted.hive = f.text("hive_id", 64).value_or(""), placing->wanted.device = read_device(f);
  if (in.operation == "model_load") placing->wanted.kind = read_kind(f);
  if (has_flaws(c, f)) return;
  if (const std::string& hive = placing->wanted.hive; !hive.empty() && !q.knows_hive(hive))
    return c->fail(q.unknown_hive(hive), {}, "hive_id");
  auto resolved = q.resolve(model, c->principal);
  if (!resolved) return c->fail(resolved.error(), {}, "model");
  placing->ref = std::move(resolved->ref), placing->access = resolved->access;
  placing->wanted.model = placing->ref.text();
  const TaskPtr t = q.desk().create(c, in.operation, true, false);
  reply_created(c, in, *t);
  if (in.operation == "model_unload") return void(unload_model(t, q, placing->wanted.model, placing->wanted.hive));
  report_to(*placing, t);
  load_model(t, q, placing);
}

/// On whatever thread.
void read_incoming(const service::Context& c, Incoming& in) {
  auto body = wire::parse_body(c.request.body);
  if (!body) return void(in.flaw = body.error());
  in.hash = security::sha256_hex(c.request.body);
  in.operation = json::find_text(*body, "operation").value_or("");
  if (in.operation != "infer") return void(in.body = *std::move(body));
  if (auto* v = body->if_contains("deadline_ms")) in.deadline_ms = std::move(*v);
  body->erase("deadline_ms");
  in.infer = read_infer(*body, c.principal.id);
}

void create_operation(Queen& q, const ContextPtr& c, Incoming& in) {
  const std::string& operation = in.operation;
  wire::Fields f(in.body);
  (void)f.take("operation");
  if (!colony::is_queen_operation(operation) && !colony::is_hive_operation(operation))
    return c->fail({ErrorCode::kUnknownOperation,
                    fmt::format("there is no operation '{}'", security::sanitize(operation.substr(0, 64)))},
                   {}, "operation");
  if (!c->principal.may(service::Scope::kAdmin))
    return c->fail(
        {ErrorCode::kForbidden,
         fmt::format("this API key does not have the scope admin, which the operation {} needs", operation)});
  if (operation == "model_alias") return create_alias(q, c, in, f);
  if (operation == "model_pin") return create_pin(q, c, in, f);
  if (operation == "model_load" || operation == "model_unload") return create_load(q, c, in, f);
  if (operation == "status" || operation == "queen_check") {
    const TaskPtr t = q.desk().create(c, in.operation, true, false);
    reply_created(c, in, *t);
    t->start();
    if (operation == "queen_check")
      t->narrate("queen_check", fmt::format("the queen is awake, with {} hives", q.hives().online().size()));
    return t->succeed(boost::json::value(overview(q)));
  }
  std::string hive_id = f.text("hive_id", 64).value_or(f.text("alias", 64).value_or(""));
  if (operation == "hive_check" && hive_id.empty()) hive_id = q.local_hive().id();
  // This machine's hive is started for it, as it is for a prompt; whoever asks how it is starts nothing.
  const bool starts = q.own_hive_is_meant(hive_id) && operation != "hive_check";
  if (const auto hive = q.find_hive(hive_id); !hive && !starts) return c->fail(hive.error(), {}, "hive_id");
  boost::json::object order = in.body;
  if (auto* m = order.if_contains("model"); m && m->is_string()) {
    const auto resolved = q.resolve(m->get_string(), c->principal);
    if (!resolved) return c->fail(resolved.error(), {}, "model");
    *m = boost::json::string(resolved->ref.text());
  }
  const TaskPtr t = q.desk().create(c, in.operation, true, false);
  reply_created(c, in, *t);
  if (operation == "hive_check") return void(hive_check(t, q, hive_id));
  pass_on(t, q, hive_id, std::move(order));
}

void create(Queen& q, const ContextPtr& c, const IncomingPtr& in) {
  if (in->flaw) return c->fail(*in->flaw);
  if (q.stopping()) return c->fail({ErrorCode::kShuttingDown, "the queen is shutting down"});
  const std::function<void()> again = [&q, c, in] {
    if (c->exchange->alive()) create(q, c, in);
  };
  if (!q.intake().reserve(c, in->hash, in->key, again)) return;
  const auto go_on = [&q, c, in] { in->infer ? create_infer(q, c, *in) : create_operation(q, c, *in); };
  if (!q.sharing()) return go_on();
  q.sharing()->claims().reserve(c, in->hash, {in, &in->claim}, go_on);
}

}  // namespace

void add_route_jobs(Queen& q) {
  q.front().router().route<service::Scope::kInfer>("POST", kPrefix, [&q](const ContextPtr& c) {
    const auto in = std::make_shared<Incoming>();
    q.intake().prepare(
        c, [c, in] { read_incoming(*c, *in); }, [&q, c, in] { create(q, c, in); });
  });
  service::add_job_routes(q.front().router(), q.loop(), q.desk().jobs(),
                          {.prefix = kPrefix,
                           .cancel = [&q](const job::JobPtr& j) { q.desk().cancel(j); },
                           .disconnected = [&q](const job::JobPtr& j) { q.desk().disconnected(j); },
                           .hidden = {},
                           .framing = framing_of,
                           .elsewhere = [&q](const ContextPtr& c) { return ask_fellows(q, c); }});
}

}  // namespace llorch::queen
