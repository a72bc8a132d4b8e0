#include "service/job_routes.h"

#include <fmt/format.h>

#include "base/ids.h"
#include "net/url.h"

namespace llorch::service {
namespace {

/// Null: it was, or will be, answered.
job::JobPtr find(const job::Registry& jobs, const JobRoutes& routes, const ContextPtr& c) {
  auto job = jobs.get(c->parameters[0], c->principal.id, c->principal.may(Scope::kAdmin));
  if (job) return *job;
  if (!routes.elsewhere || !routes.elsewhere(c)) c->fail(job.error());
  return nullptr;
}

void stream(net::EventLoop& loop, job::Registry& jobs, const JobRoutes& routes, const ContextPtr& c) {
  const job::JobPtr job = find(jobs, routes, c);
  if (!job) return;
  StreamOptions options;
  if (const auto last = c->request.headers.get("Last-Event-ID")) {
    options.take_over = true;
    if (last->empty() || last->size() > 18 || last->find_first_not_of("0123456789") != std::string::npos)
      return c->fail({ErrorCode::kInvalidRequest, "Last-Event-ID must be a number"}, {}, "Last-Event-ID");
    options.last_seq = std::stoull(*last);
  }
  if (c->request.headers.get("Accept").value_or("").starts_with("application/x-ndjson"))
    options.framing = Framing::kJsonLines;
  else if (routes.framing)
    options.framing = routes.framing(*job);
  if (const Status s = stream_job(loop, jobs, job, c, std::move(options), routes.disconnected); !s) c->fail(s.error());
}

}  // namespace

boost::json::object created(const job::Job& job, std::string_view prefix, int queue_position) {
  return {{"job_id", job.id},
          {"sse_url", net::url_path(prefix).segment(job.id).fixed("/stream").text()},
          {"status", "queued"},
          {"queue_position", queue_position}};
}

boost::json::object describe(const job::Job& job) {
  boost::json::object o{{"job_id", job.id},
                        {"operation", job.options.operation},
                        {"status", name(job.state)},
                        {"created_at", rfc3339(job.created_at)}};
  if (job.started_at != job::WallTime{}) o["started_at"] = rfc3339(job.started_at);
  if (job.finished()) o["completed_at"] = rfc3339(job.completed_at);
  if (job.error) o["error"] = {{"code", name(job.error->code)}, {"message", job.error->message}};
  return o;
}

void add_job_routes(Router& router, net::EventLoop& loop, job::Registry& jobs, JobRoutes routes) {
  const auto r = std::make_shared<JobRoutes>(std::move(routes));
  router.route<Scope::kInfer>("GET", r->prefix, [&jobs, r](const ContextPtr& c) {
    boost::json::array list;
    for (const auto& job : jobs.list(c->principal.id, c->principal.may(Scope::kAdmin)))
      if (!r->hidden || !r->hidden(*job)) list.push_back(describe(*job));
    c->reply(200, {{"jobs", std::move(list)}});
  });
  router.route<Scope::kInfer>(
      "GET", r->prefix + "/{}/stream", [&loop, &jobs, r](const ContextPtr& c) { stream(loop, jobs, *r, c); },
      Answers::kStream);
  router.route<Scope::kInfer>("GET", r->prefix + "/{}", [&jobs, r](const ContextPtr& c) {
    if (const auto job = find(jobs, *r, c)) c->reply(200, describe(*job));
  });
  router.route<Scope::kInfer>("DELETE", r->prefix + "/{}", [&jobs, r](const ContextPtr& c) {
    const auto job = find(jobs, *r, c);
    if (!job) return;
    r->cancel(job);
    c->reply(200, {{"job_id", job->id}, {"status", name(job->state)}});
  });
}

}  // namespace llorch::service
