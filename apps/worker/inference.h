// Events of the native stream, from events of the engine (J-30 to J-35).
#pragma once

#include <boost/json.hpp>

#include "worker/worker.h"

namespace llorch::worker {

/// The effective sampling set, as `started.params` reports it (W-15).
[[nodiscard]] boost::json::object effective_params(const GenerateRequest& request);
/// Spelling of a token for logprobs; bytes that are no whole character are replaced there, and exact in `bytes`.
[[nodiscard]] std::string token_text(const Tokenizer& tokenizer, TokenId id);
/// {token, logprob, bytes}, with top_logprobs when there are some (J-61).
[[nodiscard]] boost::json::object logprob_entry(const Tokenizer& tokenizer, TokenId id, double logprob);

/// Times of one generation, observed where its events arrive, for metrics.
class Stopwatch {
 public:
  explicit Stopwatch(Metrics& metrics, net::Clock::time_point accepted)
      : metrics_(metrics), accepted_(accepted), last_(accepted) {}
  void observe(const EngineEvent& event);

 private:
  Metrics& metrics_;
  net::Clock::time_point accepted_, last_;
  bool first_ = true;
};

/// The engine's request of what a client asked for. `room`: tokens that fit after the prompt.
[[nodiscard]] GenerateRequest make_request(const wire::Generation& asked, TokenIds prompt, int max_tokens,
                                           std::uint64_t seed, const std::string& principal);
[[nodiscard]] std::uint64_t seed_of(const wire::Generation& asked);
/// Details of context_length_exceeded (J-03).
[[nodiscard]] boost::json::object context_details(std::size_t prompt_tokens, int max_tokens, int context);

}  // namespace llorch::worker
