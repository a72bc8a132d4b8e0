// A worker's streamed chat completion that is kept as the log of a job (X-Resumable: 1): its client may lose the
// connection and come back for the rest, by Last-Event-ID at the job's stream.
#pragma once

#include <memory>
#include <string_view>

#include "job/registry.h"
#include "net/sse.h"
#include "service/job_desk.h"
#include "service/job_stream.h"

namespace llorch::queen {

class KeptAnswer {
 public:
  /// Makes the job and begins to answer `c` with its stream. `work` is cancelled when the job is, and when nobody has
  /// come back for it for a minute.
  [[nodiscard]] static Result<std::shared_ptr<KeptAnswer>> begin(service::JobDesk& desk, const service::ContextPtr& c,
                                                                 const service::FlowPtr& work, net::Headers headers);
  /// The next bytes of the worker's stream. Errors: kInferenceFailed where they are no stream of events, or more than a
  /// job's log holds.
  [[nodiscard]] Status add(std::string_view bytes);
  void end(const Status& outcome);

 private:
  explicit KeptAnswer(service::JobDesk& desk, service::TaskPtr task);

  service::JobDesk& desk_;
  service::TaskPtr task_;
  net::SseParser parser_;
  std::optional<Error> told_error_;  // by the worker, within its stream
};

/// How the stream of a job of the queen is written.
[[nodiscard]] service::Framing framing_of(const job::Job& job);

}  // namespace llorch::queen
