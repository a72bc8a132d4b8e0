// Streams a job's log over an HTTP exchange: as SSE, as JSON lines, or as OpenAI's chunks.
//
// Sends what is there, waits for more, follows the peer's speed, sends a comment after 5 s of silence, ends at the
// terminal event. The peer leaving detaches the job, and cancels it where that is the rule (J-19).
#pragma once

#include <functional>
#include <memory>

#include "job/registry.h"
#include "net/event_loop.h"
#include "service/router.h"

namespace llorch::service {

/// kEvents: named events without ids, as Responses and Messages have them; a comment tells the end of a whole one.
/// kLines: as Ollama has it, JSON lines of which the last says that it is; nothing is sent while nothing happens.
enum class Framing { kSse, kJsonLines, kLines, kOpenAi, kOpenAiResumable, kEvents };
[[nodiscard]] inline bool is_lines(Framing framing) {
  return framing == Framing::kJsonLines || framing == Framing::kLines;
}
inline constexpr std::string_view kWholeComment = ": done\n\n";

struct StreamOptions {
  Framing framing = Framing::kSse;
  std::uint64_t last_seq = 0;
  bool take_over = false;
  net::Headers headers;
  std::chrono::milliseconds keep_alive{5'000};
};

/// Called when a reader's leaving must cancel its job.
using CancelJob = std::function<void(const job::JobPtr&)>;

/// Answers `context` with the stream. Errors, when nothing has been sent yet: of Registry::attach.
[[nodiscard]] Status stream_job(net::EventLoop& loop, job::Registry& registry, const job::JobPtr& job,
                                const ContextPtr& context, StreamOptions options, CancelJob cancel);

}  // namespace llorch::service
