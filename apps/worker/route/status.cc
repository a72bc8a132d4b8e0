// What the worker says of itself: /health, /v1/ready, /v1/info, /v1/loading/progress, /metrics; and /v1/shutdown.
#include <sys/resource.h>

#include "kernel/kernels.h"
#include "worker/backend.h"
#include "worker/worker.h"

namespace llorch::worker {
namespace {

using service::ContextPtr;
using service::Scope;

boost::json::object describe_health(Worker& w, bool ready, const std::string& stuck) {
  const ModelFacts& m = w.model();
  const bool well = ready && stuck.empty();
  boost::json::object o{{"status", well                                 ? "healthy"
                                   : w.state() == WorkerState::kLoading ? "loading"
                                                                        : "unhealthy"},
                        {"model", m.id},
                        {"model_loaded", ready},
                        {"resident", ready},
                        {"quant_kind", m.quant_kind},
                        {"vram_bytes_used", w.vram_bytes()},
                        {"memory_bytes_used", static_cast<std::int64_t>(w.metrics().memory_bytes.Value())},
                        {"memory_type", backend().memory()},
                        {"tokenizer_kind", m.tokenizer_kind},
                        {"vocab_size", m.vocab},
                        {"context_length", m.context},
                        {"uptime_seconds", w.uptime_s()},
                        {"capabilities", capabilities(m)},
                        {"protocol", "sse"}};
  if (!stuck.empty()) o["stuck"] = stuck;
  return o;
}

/// What a request would go through answers for itself.
void health(Worker& w, const ContextPtr& c) {
  const bool ready = w.state() == WorkerState::kIdle || w.state() == WorkerState::kDraining;
  if (!ready) return c->reply(503, describe_health(w, false, ""));
  w.health().check([&w, c](const std::string& stuck) {
    if (c->exchange->alive()) c->reply(stuck.empty() ? 200 : 503, describe_health(w, true, stuck));
  });
}

/// Whether other machines give the same bits: those of kernels without tiles do, a library's products do not.
bool is_canonical(const std::string& isa) {
  const kernel::Kernels* kernels = kernel::find_kernels(isa.c_str());
  return kernels && kernels->canonical;
}

boost::json::array describe_adapters(const Worker& w) {
  boost::json::array list;
  if (w.state() != WorkerState::kIdle && w.state() != WorkerState::kDraining) return list;
  for (const Model::AdapterFacts& a : w.loaded().model->adapters())
    list.push_back({{"name", a.name}, {"hash", a.identity}, {"scale", a.asked_scale}, {"memory_bytes", a.bytes}});
  return list;
}

/// What a request that names nothing is sampled with.
boost::json::value describe_sampling(const Worker& w) {
  if (w.state() == WorkerState::kLoading) return nullptr;
  const SamplingParams& s = w.model().sampling.params;
  return {{"temperature", s.temperature},
          {"top_p", s.top_p},
          {"top_k", s.top_k},
          {"min_p", s.min_p},
          {"repetition_penalty", s.repetition_penalty},
          {"source", name(w.model().sampling.source)}};
}

void info(Worker& w, const ContextPtr& c) {
  const std::string isa(w.state() == WorkerState::kLoading ? "" : w.loaded().device->isa());
  c->reply(200, {{"id", w.options().worker_id},
                 {"model_id", w.model().id},
                 {"model_ref", w.options().model_ref},
                 {"model_hash", w.model().hash},
                 {"device", fmt::format("{}:{}", backend().device(), w.options().engine.model.cuda_index)},
                 {"port", w.port()},
                 {"status", w.state_name()},
                 {"implementation", backend().program()},
                 {"version", LLORCH_VERSION},
                 {"backend", backend().kind},
                 {"isa", isa},
                 {"canonical", is_canonical(isa)},
                 {"context_length", w.model().context},
                 {"sampling", describe_sampling(w)},
                 {"adapters", describe_adapters(w)},
                 {"build_id", LLORCH_VERSION}});
}

void progress(Worker& w, const ContextPtr& c) {
  if (w.state() != WorkerState::kLoading) {
    const boost::json::object o{{"state", w.state_name()}};
    return c->fail({ErrorCode::kWorkerUnhealthy, "the worker is not loading"}, o);
  }
  const Status s =
      service::stream_job(w.loop(), w.jobs(), w.loading_job(), c, {.take_over = true}, [](const job::JobPtr&) {});
  if (!s) c->fail(s.error());
}

}  // namespace

void add_route_status(Worker& w) {
  auto& r = w.router();
  r.route<Scope::kPublic>("GET", "/health", [&w](const ContextPtr& c) { health(w, c); });
  r.route<Scope::kInfer>("GET", "/v1/ready", [&w](const ContextPtr& c) {
    boost::json::object o{{"ready", w.state() == WorkerState::kIdle},
                          {"state", w.state_name()},
                          {"model_loaded", w.state() == WorkerState::kIdle}};
    if (w.state() == WorkerState::kLoading) o["progress_url"] = "/v1/loading/progress";
    c->reply(200, std::move(o));
  });
  r.route<Scope::kInfer>("GET", "/v1/info", [&w](const ContextPtr& c) { info(w, c); });
  r.route<Scope::kInfer>(
      "GET", "/v1/loading/progress", [&w](const ContextPtr& c) { progress(w, c); }, service::Answers::kStream);
  r.route<Scope::kMetrics>("GET", "/metrics", [&w](const ContextPtr& c) {
    w.measure();
    net::Response response;
    response.content_type = "text/plain; version=0.0.4";
    response.body = w.metrics().text();
    c->reply(std::move(response));
  });
  r.route<Scope::kAdmin>("POST", "/v1/shutdown", [&w](const ContextPtr& c) {
    c->reply(202, {{"status", "shutting down"}});
    w.shutdown("asked over HTTP");
  });
}

}  // namespace llorch::worker
