// One narration event of a job's stream (O-01): what a daemon does, told to the person who asked.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "job/registry.h"

namespace llorch::service {

struct Narration {
  std::string_view daemon;  // "queen", "hive", "worker"
  std::string_view actor;   // which one
  std::string_view action;  // a stable code, such as "schedule"
  std::string human;
  boost::json::object more;  // of the event's further fields: worker_id, tokens_out, error_kind...
};
/// The event's JSON, with the next number of the job's log.
[[nodiscard]] boost::json::object narration_event(const job::Job& job, const Narration& n);
/// Appends it, and logs it. False: the log was full, and it is dropped.
bool narrate(job::Registry& jobs, const job::JobPtr& job, const Narration& n);
/// Log fields that say which job and whose request (O-10).
[[nodiscard]] boost::json::object with_origin(const job::Job& job, boost::json::object fields);
/// The terminal event of a failed native job.
[[nodiscard]] std::string error_event(const Error& error, std::uint64_t seq);

}  // namespace llorch::service
