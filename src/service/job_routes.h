// The observing half of the dual call, the same in every daemon: list, look at, stream and cancel jobs (J-10 to J-21).
#pragma once

#include <functional>
#include <string>

#include "service/job_stream.h"

namespace llorch::service {

struct JobRoutes {
  std::string prefix;  // "/v1/inference" or "/v1/jobs"
  /// Cancels from outside; a finished job stays as it is.
  CancelJob cancel;
  /// Its reader has left, and that is the end of it.
  CancelJob disconnected;
  /// Jobs that are nobody's business are not listed.
  std::function<bool(const job::Job&)> hidden;
  /// The stream's form, for jobs that are not native.
  std::function<Framing(const job::Job&)> framing;
  /// A job is not here: true where somebody else answers. May be empty.
  std::function<bool(const ContextPtr&)> elsewhere = nullptr;
};

/// GET prefix, GET prefix/{id}, GET prefix/{id}/stream, DELETE prefix/{id}.
void add_job_routes(Router& router, net::EventLoop& loop, job::Registry& jobs, JobRoutes routes);
/// The answer of a POST that made a job: 202 with job_id, sse_url, status, queue_position.
[[nodiscard]] boost::json::object created(const job::Job& job, std::string_view prefix, int queue_position);
[[nodiscard]] boost::json::object describe(const job::Job& job);

}  // namespace llorch::service
