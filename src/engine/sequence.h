// A request under way: the engine's alone.
#pragma once

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "engine/drafter.h"
#include "engine/engine.h"
#include "engine/guide.h"

namespace llorch {

constexpr int kPage = limits::kKvPagePositions;
constexpr int pages_for(int positions) { return (positions + kPage - 1) / kPage; }

struct Engine::Sequence {
  Sequence(int number, GenerateRequest r)
      : id(number),
        request(std::move(r)),
        sampler(request.sampling, request.prompt),
        emitter(request.stop),
        tokens(request.prompt) {
    if (request.thought) thought.emplace(*request.thought);
  }

  int id;
  GenerateRequest request;
  Sampler sampler;
  TextEmitter emitter;
  std::optional<Guide> guide;  // where the request has a grammar, once it was admitted
  std::optional<ThoughtWatch> thought;
  Drafter drafter;
  TokenIds draft;                                 // guessed to follow `tokens`, for the step under way
  std::vector<std::vector<std::uint32_t>> masks;  // of a grammar: what may come behind each of them
  TokenIds tokens;                                // prompt and output
  std::vector<std::int32_t> pages;                // for all of `tokens`, before they are computed
  /// Of each window: page numbers, below 0 for what nobody sees any more; how many of those are in front.
  std::vector<std::vector<std::int32_t>> windowed;
  std::vector<int> slid;
  std::int32_t slot = -1;
  std::int32_t restore = -1;          // a checkpoint that it goes on from
  std::vector<StepPlan::Save> saves;  // of the step under way
  std::int32_t checkpoint = -1;       // of the last border that was reached since the prompt
  PageHash hash{};                    // of the full pages so far
  int hashed_pages = 0;
  int computed = 0;               // tokens whose keys and values are in the cache
  int cached = 0;                 // of them, taken over from the prefix cache
  int out = 0;                    // tokens generated
  int drafted = 0, accepted = 0;  // tokens that were guessed, and those of them that were right
  int scored = 0;                 // positions of the prompt whose next token's probability was told
  bool done = false, paused = false, rests = false, drawn = false;
  std::optional<EngineEvent> last;  // that has not reached the sink
  std::chrono::steady_clock::time_point started, first_token;
  double prefill_ms = 0;
  std::vector<double> pooled;

  /// Logits of further positions of the prompt are wanted.
  [[nodiscard]] bool unscored() const { return request.score_prompt && scored + 1 < prompt_size(); }
  [[nodiscard]] int prompt_size() const { return static_cast<int>(request.prompt.size()); }
};

}  // namespace llorch
