#include "service/narration.h"

#include <fmt/format.h>

#include "security/auth.h"
#include "service/log.h"

namespace llorch::service {

boost::json::object narration_event(const job::Job& job, const Narration& n) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::string human = security::redact(n.human);
  return {{"type", "narration"},
          {"seq", job.log.next_seq()},
          {"formatted", fmt::format("[{}] {}", n.daemon, human)},
          {"actor", n.actor},
          {"action", n.action},
          {"target", job.id},
          {"human", human},
          {"job_id", job.id},
          {"correlation_id", job.options.correlation_id},
          {"emitted_by", n.daemon},
          {"emitted_at_ms", std::chrono::duration_cast<std::chrono::milliseconds>(now).count()}};
}

boost::json::object with_origin(const job::Job& job, boost::json::object fields) {
  fields["job_id"] = job.id;
  fields["correlation_id"] = job.options.correlation_id;
  if (!job.options.traceparent.empty()) fields["traceparent"] = job.options.traceparent;
  return fields;
}

bool narrate(job::Registry& jobs, const job::JobPtr& job, const Narration& n) {
  log(Level::kInfo, n.action, n.human, with_origin(*job, {{"action", n.action}}));
  return jobs.append(*job, "narration", boost::json::serialize(narration_event(*job, n)));
}

std::string error_event(const Error& error, std::uint64_t seq) {
  return boost::json::serialize(boost::json::object{{"type", "error"},
                                                    {"seq", seq},
                                                    {"code", name(error.code)},
                                                    {"message", error.message},
                                                    {"retriable", kind(error.code).retriable}});
}

}  // namespace llorch::service
