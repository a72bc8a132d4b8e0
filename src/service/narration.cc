#include "service/narration.h"

#include <fmt/format.h>

#include "security/auth.h"
#include "service/log.h"
#include "service/tone.h"

namespace llorch::service {

boost::json::object narration_event(const job::Job& job, const Narration& n) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::string human = security::redact(n.human);
  boost::json::object event{{"type", "narration"},
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
  if (const Tone tone = tone_of(n.action); !tone.cute.empty()) event["cute"] = tone.cute, event["story"] = tone.story;
  for (const auto& [key, value] : n.more) event.emplace(key, value);
  return event;
}

boost::json::object with_origin(const job::Job& job, boost::json::object fields) {
  fields["job_id"] = job.id;
  fields["correlation_id"] = job.options.correlation_id;
  if (!job.options.traceparent.empty()) fields["traceparent"] = job.options.traceparent;
  return fields;
}

bool narrate(job::Registry& jobs, const job::JobPtr& job, const Narration& n) {
  boost::json::object fields{{"action", n.action}};
  for (const auto& [key, value] : n.more) fields.emplace(key, value);
  log(Level::kInfo, n.action, n.human, with_origin(*job, std::move(fields)));
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
