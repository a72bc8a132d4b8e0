// One answer in the making, for APIs that have events of their own: the engine's events become items, and a writer
// makes of them what its API says, as a stream or whole. Threads: the event loop's.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "worker/answer_reader.h"
#include "worker/inference.h"

namespace llorch::worker {

struct TurnEnd {
  StopReason reason = StopReason::kEos;
  std::optional<std::string> stop_sequence;
  bool called = false;  // tools
  int tokens_in = 0, cached = 0, tokens_out = 0, reasoning_tokens = 0;
  double prefill_ms = 0, decode_ms = 0;
};

/// What one API makes of an answer.
class TurnWriter {
 public:
  virtual ~TurnWriter() = default;
  virtual void begin(const StartedEvent& e) = 0;
  virtual void item(const AnswerItem& item) = 0;
  virtual void end(const TurnEnd& end) = 0;
  /// After end().
  [[nodiscard]] virtual boost::json::object whole() = 0;
  /// What the head of the answer says, before anything of it is known.
  virtual void add_headers(net::Headers& /*headers*/) const {}
  std::size_t echoed_bytes = 0;  // of the request, that the whole answer repeats
  /// Of a stream; without it, nothing is written before the whole.
  std::function<void(std::string_view event, const boost::json::object& data)> emit;

 protected:
  void say(std::string_view event, boost::json::object data) const {
    if (emit) emit(event, data);
  }
};

/// Runs the request's one answer as a job and answers its client. `operation`: of the job, and of its errors.
void run_turn(Worker& w, const PromptRequestPtr& r, Prepared<wire::CompletionRequest>& p, std::string operation,
              std::unique_ptr<TurnWriter> writer);

/// How many tokens each prompt may generate, at most what there is room for; context_length_exceeded is answered here.
/// Prompts of text completions lose tokens in front where the client asked for it (J-64).
[[nodiscard]] std::optional<std::vector<int>> fit(const Worker& w, PromptRequest& r,
                                                  Prepared<wire::CompletionRequest>& p);
/// Messages and tools as the model's chat template wants them, rendered; what the answer must look like, compiled.
/// False: the answer is ready. `answers`: something will be generated; else the grammar is not needed.
[[nodiscard]] bool prepare_turn(const Worker& w, Prepared<wire::CompletionRequest>& p, const PrepareBound& bound,
                                bool answers = true);

/// Sends a whole answer, whose text is about `bytes` long, when its job has ended.
using SendWhole = std::function<void(boost::json::object answer, std::size_t bytes)>;
[[nodiscard]] SendWhole send_when_whole(Worker& w, const PromptRequestPtr& r, const job::JobPtr& job,
                                        net::Headers headers);

}  // namespace llorch::worker
