// Continuous batching over one model: requests come in, events go out.
//
// One thread owns the engine and calls step(); submit() and cancel() may be called from any thread and take effect
// before the next step. A step drains commands, admits waiting requests (first come, first served, when the pages of
// their prompts are there), plans, computes, samples, and hands each event to its request's sink before the next token
// is computed (J-33); those that were guessed and drawn in one step come together. Errors reach a request's own sink:
// KV_OOM when it can never fit (VRAM_OOM where the device's memory is its own), INFERENCE_FAILED when values of its
// tokens are not finite in some layer, INSUFFICIENT_MEMORY or INTERNAL when computing it threw, VRAM_OOM where a step
// found no memory for it, CANCELLED. MODEL_CHANGED, and WORKER_UNHEALTHY where the device failed, reach all requests:
// the engine computes nothing any more.
//
// Requests grow page by page. Where none is left (cached pages without an owner go first), the youngest request that
// runs gives up its pages and rests; it is computed again, to the same bits, from what the prefix cache still has, as
// soon as there is room. The oldest one never rests, and while one rests nobody is admitted.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <variant>
#include <vector>

#include "cache/levels.h"
#include "cache/pages.h"
#include "engine/scheduler.h"
#include "engine/text_emitter.h"
#include "engine/thought.h"
#include "forward/model.h"
#include "grammar/matcher.h"
#include "sample/sampler.h"
#include "text/tokenizer.h"

namespace llorch {

enum class StopReason { kMaxTokens, kEos, kStopSequence };
[[nodiscard]] std::string_view name(StopReason reason);

struct StartedEvent {
  int tokens_in = 0;
  int cached_tokens = 0;
};
struct EndEvent {
  StopReason reason = StopReason::kMaxTokens;
  std::optional<std::string> stop_sequence;
  int tokens_in = 0, tokens_out = 0, cached_tokens = 0;
  int drafted_tokens = 0, accepted_tokens = 0;  // guessed to follow, and those of them that did
  double prefill_ms = 0, decode_ms = 0;
  std::string undecoded;  // raw bytes that never became a code point
};
/// One vector for a whole prompt, of length 1; of a model with a classification head (model/classifier.h) its scores.
struct EmbeddingEvent {
  std::vector<float> values;
};
/// Log probabilities of some more of a prompt's tokens, in order, beginning with its second: the first has none.
struct PromptEvent {
  std::vector<Sampled> tokens;
};
/// How much of a prompt has been computed, after each step that computed some of it.
struct ProgressEvent {
  int tokens = 0, cached_tokens = 0, computed_tokens = 0;  // the cached ones are among the computed ones
  double ms = 0;                                           // since it began
};
using EngineEvent = std::variant<StartedEvent, TokenEvent, EmbeddingEvent, PromptEvent, ProgressEvent, EndEvent, Error>;
/// Called on the engine's thread; must not block and must not call back into the engine. May throw std::bad_alloc: the
/// last event is then given again later.
using EventSink = std::function<void(const EngineEvent&)>;

/// How the states of a prompt's tokens become one vector.
enum class Pooling { kMean, kFirst, kLast };

struct GenerateRequest {
  TokenIds prompt;
  SamplingParams sampling;
  int max_tokens = 128;  // 0: the prompt is computed, and nothing is generated
  std::vector<std::string> stop;
  bool ignore_eos = false;
  std::shared_ptr<Constraint> constraint;  // set: the answer is a text of its grammar; requests may share one
  std::optional<ThoughtLimit> thought;     // set: where a model's thought is, before it answers
  int adapter = -1;                        // of Model::adapters(), by its number; -1: the model alone
  std::string cache_salt;
  std::optional<Pooling> embedding;  // set: nothing is generated, the prompt's EmbeddingEvent is the answer
  int second_text = 0;               // of a pair: where its second text begins, for token types; 0: it is none
  bool score_prompt = false;         // PromptEvents, with sampling.top_logprobs alternatives; without `constraint`
  bool progress = false;             // ProgressEvents
  int hash_every = 0;  // n: of each n-th token of the answer, the first among them, Sampled::logits_sha256; 0: of none
  EventSink sink;
};

/// Where guesses of the next tokens come from: a step computes them along, and keeps those that it draws itself. An
/// answer is the same tokens, to the bits of its logits, with any.
enum class Speculation { kOff, kNgram };

struct EngineOptions {
  int pages = 0;  // of the KV cache; 0: as many as model/memory.h says
  KvPrecision kv = KvPrecision::kF16;
  int max_batch = 8;  // sequences that run together
  int prefill_chunk = 512;
  bool prefix_cache = true;
  Speculation speculation = Speculation::kNgram;
  std::string model_id;  // part of every cache key
  /// Bytes that a step brings up from lower levels of the cache, while others wait for their next token and while none
  /// does; one content may always.
  std::int64_t lifted_besides = 16 << 20, lifted_alone = 256 << 20;
};

class Engine {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Engine>> make(Model& model, const Tokenizer& tokenizer,
                                                            EngineOptions options);
  /// All that an engine with these options takes of the model's device: the cache, and room for the largest step.
  /// Errors: kVramOom, kInsufficientMemory.
  [[nodiscard]] static Result<std::unique_ptr<Cache>> take_memory(Model& model, EngineOptions options);
  ~Engine();

  /// Checks a request and queues it. Errors: kInvalidRequest, kContextLengthExceeded; the sink is then never called.
  [[nodiscard]] Result<int> submit(GenerateRequest request);
  void cancel(int id);
  /// A paused sequence computes nothing; its result does not change (J-16). It keeps its pages unless older ones need
  /// them.
  void pause(int id, bool paused);

  /// One round of work; false when there is nothing to do before another command comes.
  bool step();
  /// Why the engine computes nothing any more: its model's file was changed, or its device failed.
  [[nodiscard]] const std::optional<Error>& broken() const { return broken_; }
  [[nodiscard]] int running() const { return static_cast<int>(running_.size()); }
  [[nodiscard]] int waiting() const { return static_cast<int>(waiting_.size() + resting_.size()); }
  /// How often a request had to give up its pages.
  [[nodiscard]] std::int64_t rests() const { return rests_; }
  /// Tokens that were guessed and computed along, and those of them that were drawn.
  [[nodiscard]] std::int64_t drafted() const { return drafted_; }
  [[nodiscard]] std::int64_t accepted() const { return accepted_; }
  /// Steps until nothing is left to do.
  void run_until_idle() {
    while (step()) {
    }
  }

  [[nodiscard]] const KvPages& pages() const { return pages_; }
  void evict_cache();
  /// From now on what the prefix cache has goes down to these levels, and is found there. Without effect where there is
  /// no prefix cache. Before requests come.
  void use(std::unique_ptr<CacheLevels> levels);
  [[nodiscard]] CacheLevels* levels() const { return levels_.get(); }
  /// The logits of every sampled position, for tests of bit-exactness.
  std::function<void(int id, int position, std::span<const float> logits)> logits_probe;
  /// For tests: what is guessed to follow the tokens of a request, at most so many.
  std::function<TokenIds(int id, std::span<const TokenId> tokens, int most)> guess_probe;

 private:
  struct Sequence;
  /// Pages of the layers with one window.
  struct WindowGroup {
    int window;
    KvPages pages;
  };
  /// The first page that a position at or behind `border` sees.
  [[nodiscard]] static int first_seen(const WindowGroup& group, int border);
  [[nodiscard]] bool can_go_on(std::span<const PageHash> hashes, bool below) const;
  /// Of the beginning of what a sequence knows, the pages that can be shared and lie before a place to go on from.
  /// `below`: those of lower levels count.
  [[nodiscard]] std::vector<PageHash> hits_of(const Sequence& s, bool below) const;
  enum class Lift { kDone, kLater, kGone };
  /// Brings up what lower levels have of all that is remembered behind these pages. kLater: enough for this step;
  /// kGone: something is not there any more, or there is no room.
  [[nodiscard]] Lift lift(std::span<const PageHash> hits);
  [[nodiscard]] Lift lift_all(std::span<const PageHash> hits);
  [[nodiscard]] bool is_below(int group, const PageHash& hash) const;
  KvPages& pages_of(int group);
  /// Hands a content to the lower levels; where there is no memory for that, it stays where it is.
  void hand_down(int group, std::int32_t page, const PageHash& hash, bool leaves) noexcept;
  /// Pages of windowed layers for positions up to `end`; false: there are none.
  [[nodiscard]] bool see(Sequence& s, int end);
  /// Gives up what nobody sees any more.
  void slide(Sequence& s);
  Engine(Model& model, const Tokenizer& tokenizer, EngineOptions options, std::unique_ptr<Cache> cache, int pages);
  /// With what was left open, and within what the model can do.
  [[nodiscard]] static EngineOptions resolved(const Model& model, EngineOptions options);
  void drain_commands();
  void admit();
  bool try_start(Sequence& s);
  [[nodiscard]] PageHash root_of(const GenerateRequest& request) const;
  /// The pages that the next step needs; where there are none, younger requests rest, or this one.
  void grow(Sequence& s);
  void rest(Sequence& s);
  Sequence& youngest_running();
  void set_aside_rested();
  void refuse_what_never_fits(Sequence& s);
  bool start_rested();
  [[nodiscard]] bool compute();
  void collect(std::span<const PlannedWork> work);
  /// Bounds the rows of prompts that get logits in one step.
  void bound_scored(std::vector<PlannedWork>& work);
  void plan_scores(Sequence& s, int first, std::int32_t first_row);
  void take_scores(Sequence& s, std::span<Result<Sampled>> scores);
  static void tell_progress(const Sequence& s);
  /// Guesses what follows in a sequence that waits for one token, at most `most` tokens.
  void draft(Sequence& s, int most);
  /// Masks of the guessed tokens; the guess ends where a grammar does not allow it.
  static void constrain_draft(Sequence& s);
  /// Takes drawn tokens as long as the rows of guesses are those of what was drawn.
  void take_drawn(Sequence& s, std::span<Result<Sampled>> drawn, const StepResult& result, std::size_t first_row,
                  std::size_t first_logits);
  void end_of_prompt(Sequence& s);
  void take_results(std::span<const PlannedWork> work, StepResult& result);
  void break_down(Error error);
  /// A step found no memory: the request with the most rows ends, the others are computed again.
  void refuse_largest(std::span<const PlannedWork> work, const Error& error);
  /// Runs `work` for a sequence; what it throws ends the sequence.
  template<class Work>
  void guarded(Sequence& s, const Work& work);
  void remove_finished();
  [[nodiscard]] bool undelivered() const;
  /// The sequence goes on with the token that was drawn, and with those that its grammar forces then.
  void take_token(Sequence& s, Result<Sampled> token);
  /// `mark`: a part of no answer, in which no stop string is looked for.
  void append(Sequence& s, Sampled token, bool mark = false);
  /// Tokens that were not drawn. Their rows are computed along with the next step's.
  void append_given(Sequence& s, const TokenIds& ids, bool mark = false);
  /// Sets which tokens may be drawn in the next step; where that fails, the sequence ends.
  void constrain(Sequence& s);
  /// Takes the states of some more tokens of a prompt; with the last of them the embedding is ready.
  void pool(Sequence& s, std::span<const float> states, int tokens);
  [[nodiscard]] std::int32_t type_of(const Sequence& s, int position) const;
  void publish_full_pages(Sequence& s);
  /// Checkpoints that the next step leaves behind, of positions up to `end`.
  void want_checkpoints(Sequence& s, int end);
  void publish_checkpoint(Sequence& s, int position);
  void leave_cache(Sequence& s);
  [[nodiscard]] bool recurrent() const { return !cache_->shape().slot_layers.empty(); }
  void finish(Sequence& s, EngineEvent last);
  static void deliver_end(Sequence& s);
  Sequence* find(int id);

  Model& model_;
  const Tokenizer& tokenizer_;
  EngineOptions options_;
  std::unique_ptr<Cache> cache_;
  KvPages pages_, checkpoints_;
  std::vector<WindowGroup> windows_;
  std::unique_ptr<CacheLevels> levels_;
  std::int64_t lifted_ = 0;  // bytes of this step
  bool lifts_ = false;       // more with the next
  std::vector<std::int32_t> free_slots_;
  std::vector<std::unique_ptr<Sequence>> waiting_, running_, resting_;
  std::int64_t rests_ = 0, drafted_ = 0, accepted_ = 0;
  StepPlan plan_;
  std::optional<Error> broken_;

  std::mutex mutex_;  // guards what follows
  std::vector<std::unique_ptr<Sequence>> submitted_;
  std::vector<int> cancelled_;
  std::vector<std::pair<int, bool>> pauses_;
  int next_id_ = 1;
};

}  // namespace llorch
