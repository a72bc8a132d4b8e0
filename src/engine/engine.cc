#include "engine/engine.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <new>

#include "base/clock.h"
#include "base/limits.h"
#include "base/thread_role.h"
#include "engine/orch_log.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "model/memory.h"

namespace llorch {
namespace {

using Clock = std::chrono::steady_clock;

/// SHA-256 of a row's bytes, in hexadecimal.
std::string hash_of(std::span<const float> row) {
  unsigned char sum[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(row.data(), row.size_bytes(), sum, &size, EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
  std::string out;
  for (unsigned int i = 0; i < size; ++i) out += fmt::format("{:02x}", sum[i]);
  return out;
}

/// For masks of guesses in one step: others wait meanwhile.
constexpr std::chrono::milliseconds kDraftMasksTime{2};

}  // namespace

std::string_view name(StopReason reason) {
  switch (reason) {
    case StopReason::kMaxTokens: return "MAX_TOKENS";
    case StopReason::kEos: return "EOS";
    case StopReason::kStopSequence: return "STOP_SEQUENCE";
  }
  return "ERROR";
}

Engine::Engine(Model& model, const Tokenizer& tokenizer, EngineOptions options, std::unique_ptr<Cache> cache, int pages)
    : model_(model),
      tokenizer_(tokenizer),
      options_(std::move(options)),
      cache_(std::move(cache)),
      pages_(pages, options_.prefix_cache),
      checkpoints_(cache_->shape().checkpoints, options_.prefix_cache) {
  for (std::size_t g = 1; g < cache_->shape().windows.size(); ++g)
    windows_.push_back({cache_->shape().windows[g], KvPages(cache_->shape().pages[g], options_.prefix_cache)});
  for (int slot = cache_->shape().slots - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::make(Model& model, const Tokenizer& tokenizer, EngineOptions options) {
  LLORCH_OK(orch_log::open());
  options = resolved(model, std::move(options));
  LLORCH_TRY(auto cache, take_memory(model, options));
  const int pages = options.pages;
  return std::unique_ptr<Engine>(new Engine(model, tokenizer, std::move(options), std::move(cache), pages));
}

Result<int> Engine::submit(GenerateRequest request) {
  const int vocab = model_.graph().vocab, context = model_.graph().context;
  if (request.prompt.empty()) return fail(ErrorCode::kInvalidRequest, "the prompt is empty");
  if (request.embedding) request.max_tokens = 0;
  if (!request.embedding && !model_.graph().head.weight.there())
    return fail(ErrorCode::kInvalidRequest, "this model gives embeddings and no text");
  if (request.max_tokens < 0) return fail(ErrorCode::kInvalidRequest, "max_tokens must not be negative");
  if (request.constraint && (request.score_prompt || request.max_tokens == 0))
    return fail(ErrorCode::kInvalidRequest, "a grammar is for answers: not for a prompt's probabilities alone");
  for (const TokenId id : request.prompt)
    if (id < 0 || id >= vocab)
      return fail(ErrorCode::kInvalidRequest, "token id {} is outside the vocabulary of {}", id, vocab);
  if (static_cast<std::int64_t>(request.prompt.size()) + request.max_tokens > context)
    return fail(ErrorCode::kContextLengthExceeded, "{} prompt tokens and {} requested tokens exceed the context of {}",
                request.prompt.size(), request.max_tokens, context);
  if (request.adapter < -1 || request.adapter >= static_cast<int>(model_.adapters().size()))
    return fail(ErrorCode::kInvalidRequest, "the model has no adapter {}", request.adapter);
  if (request.stop.size() > limits::kStopStringsMax)
    return fail(ErrorCode::kInvalidRequest, "stop: max_count({})", limits::kStopStringsMax);
  for (const std::string& stop : request.stop)
    if (stop.empty() || stop.size() > limits::kStopBytesMax)
      return fail(ErrorCode::kInvalidRequest, "stop: non_empty, max_length({})", limits::kStopBytesMax);
  LLORCH_OK(validate(request.sampling, vocab));
  if (request.constraint && request.constraint->vocabulary().size() != tokenizer_.size())
    return fail(ErrorCode::kInvalidRequest, "the grammar is for a vocabulary of {} tokens, the model has {}",
                request.constraint->vocabulary().size(), tokenizer_.size());
  const std::lock_guard lock(mutex_);
  submitted_.push_back(std::make_unique<Sequence>(next_id_, std::move(request)));
  return next_id_++;
}

void Engine::cancel(int id) {
  const std::lock_guard lock(mutex_);
  cancelled_.push_back(id);
}

void Engine::pause(int id, bool paused) {
  const std::lock_guard lock(mutex_);
  pauses_.emplace_back(id, paused);
}

Engine::Sequence* Engine::find(int id) {
  for (auto* list : {&running_, &resting_, &waiting_})
    for (const auto& s : *list)
      if (s->id == id) return s.get();
  return nullptr;
}

void Engine::drain_commands() {
  std::size_t came = 0;
  std::vector<int> cancelled;
  std::vector<std::pair<int, bool>> pauses;
  {
    const std::lock_guard lock(mutex_);
    waiting_.reserve(waiting_.size() + submitted_.size());
    for (auto& s : submitted_) waiting_.push_back(std::move(s));
    came = submitted_.size();
    submitted_.clear();
    cancelled.swap(cancelled_);
    pauses.swap(pauses_);
  }
  for (std::size_t i = waiting_.size() - came; i < waiting_.size(); ++i)
    guarded(*waiting_[i], [&] { refuse_what_never_fits(*waiting_[i]); });
  for (const auto& [id, paused] : pauses)
    if (Sequence* s = find(id)) s->paused = paused;
  for (const int id : cancelled)
    if (Sequence* s = find(id)) finish(*s, Error{ErrorCode::kCancelled, "the request was cancelled"});
  remove_finished();
}

void Engine::finish(Sequence& s, EngineEvent last) {
  if (s.done) return;
  leave_cache(s);
  s.done = true;
  s.last = std::move(last);
  deliver_end(s);
}

void Engine::deliver_end(Sequence& s) {
  try {
    if (s.request.sink && s.last) s.request.sink(*s.last);
    s.last.reset();
  } catch (const std::exception&) {  // no memory to say so: again with the next step
  }
}

void Engine::remove_finished() {
  for (auto* list : {&waiting_, &resting_, &running_}) {
    for (const auto& s : *list)
      if (s->last) deliver_end(*s);
    std::erase_if(*list, [](const auto& s) { return s->done && !s->last; });
  }
}

bool Engine::undelivered() const {
  const auto waits = [](const auto& s) { return s->last.has_value(); };
  return std::ranges::any_of(waiting_, waits) || std::ranges::any_of(resting_, waits) ||
         std::ranges::any_of(running_, waits);
}

template<class Work>
void Engine::guarded(Sequence& s, const Work& work) {
  if (s.done) return;
  try {
    work();
  } catch (const std::bad_alloc&) {
    finish(s, Error{ErrorCode::kInsufficientMemory, "memory ran out while the request was computed"});
  } catch (const std::exception& e) {
    finish(s, Error{ErrorCode::kInternal, e.what()});
  }
}

/// Nothing that was computed since the file changed, or the device failed, may be used.
void Engine::break_down(Error error) {
  if (error.code == ErrorCode::kCudaError)
    error = {ErrorCode::kWorkerUnhealthy, fmt::format("the device failed: {}", error.message)};
  broken_ = std::move(error);
  for (auto* list : {&running_, &resting_, &waiting_})
    for (const auto& s : *list) finish(*s, *broken_);
}

void Engine::rest(Sequence& s) {
  leave_cache(s);
  s.computed = s.hashed_pages = 0;
  s.pooled.clear();
  s.rests = true;
  ++rests_;
}

void Engine::grow(Sequence& s) {
  while (!s.rests && static_cast<int>(s.pages.size()) < pages_for(static_cast<int>(s.tokens.size()))) {
    if (const auto page = pages_.take()) {
      s.pages.push_back(*page);
      continue;
    }
    rest(youngest_running());
  }
}

/// One must run.
Engine::Sequence& Engine::youngest_running() {
  Sequence* youngest = nullptr;
  for (const auto& s : running_)
    if (!s->done && !s->rests && (!youngest || s->id > youngest->id)) youngest = s.get();
  return *youngest;
}

void Engine::set_aside_rested() {
  resting_.reserve(resting_.size() + running_.size());
  for (auto& s : running_)
    if (s->rests) resting_.push_back(std::move(s));
  std::erase_if(running_, [](const auto& s) { return !s; });
}

void Engine::refuse_what_never_fits(Sequence& s) {
  const int need = pages_for(s.prompt_size() + s.request.max_tokens);
  if (need <= pages_.total()) return;
  std::int64_t bytes = need * page_bytes(model_.graph(), options_.kv);
  for (const WindowGroup& group : windows_)
    bytes += std::min(need, group.pages.total()) * page_bytes(model_.graph(), options_.kv, group.window);
  const ErrorCode code = model_.device().memory() ? ErrorCode::kVramOom : ErrorCode::kKvOom;
  finish(s, Error{code, fmt::format("KV cache alloc of {} bytes ({} pages) failed: the cache has {} pages, {} of them "
                                    "free; ask for fewer tokens, or start the worker with a larger --kv-cache-size-mb",
                                    bytes, need, pages_.total(), pages_.available())});
}

/// The oldest first. False: one still rests.
bool Engine::start_rested() {
  std::ranges::sort(resting_, {}, [](const auto& s) { return s->id; });
  while (!resting_.empty() && static_cast<int>(running_.size()) < options_.max_batch) {
    Sequence& s = *resting_.front();
    bool started = false;
    guarded(s, [&] {
      running_.reserve(running_.size() + 1);
      started = try_start(s);
    });
    if (!started && !s.done) return false;
    s.rests = false;
    running_.push_back(std::move(resting_.front()));  // if it is done, it ends there
    resting_.erase(resting_.begin());
  }
  return resting_.empty();
}

void Engine::admit() {
  if (!start_rested()) return;
  for (std::size_t i = 0; i < waiting_.size() && static_cast<int>(running_.size()) < options_.max_batch;) {
    Sequence& s = *waiting_[i];
    bool started = false;
    guarded(s, [&] {
      running_.reserve(running_.size() + 1);
      started = try_start(s);
      if (!started) return;
      s.started = Clock::now();
      s.cached = s.computed;
      if (s.request.sink) s.request.sink(StartedEvent{s.prompt_size(), s.cached});
      if (!s.request.constraint) return;
      s.guide.emplace(s.request.constraint, tokenizer_);
      append_given(s, s.guide->forced());
    });
    if (s.done) {
      ++i;
      continue;
    }
    if (!started) return;  // wait for pages; later requests wait behind it
    running_.push_back(std::move(waiting_[i]));
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

bool Engine::step() {
  assert_may_compute();
  try {
    lifted_ = 0, lifts_ = false;
    drain_commands();
    if (broken_) break_down(Error(*broken_));  // what came since
    admit();
    remove_finished();
    if (running_.empty())
      return lifts_ || undelivered();  // with nothing running every request that fits has been admitted
    const bool worked = compute();
    remove_finished();
    return worked || lifts_ || undelivered();
  } catch (const std::exception&) {  // of no request alone: those that run end, so that no step is repeated for ever
    for (auto* list : {&running_, &resting_}) {
      for (const auto& s : *list) guarded(*s, [] { throw; });
      if (!list->empty()) break;
    }
    if (running_.empty() && resting_.empty())
      for (const auto& s : waiting_) guarded(*s, [] { throw; });
    remove_finished();
    return !running_.empty() || !resting_.empty() || !waiting_.empty();
  }
}

/// Fills the plan with what the next step computes.
void Engine::collect(std::span<const PlannedWork> work) {
  plan_.clear();
  for (const PlannedWork& w : work) {
    Sequence& s = *find(w.id);
    want_checkpoints(s, s.computed + w.tokens);
    StepPlan::Sequence& added = plan_.add_sequence(s.pages, s.slot);
    added.restore = s.restore, added.saves = s.saves, added.adapter = s.request.adapter;
    for (std::size_t g = 0; g < windows_.size(); ++g) added.pages[g + 1] = s.windowed[g];
    for (int i = 0; i < w.tokens; ++i, ++s.computed)
      plan_.add_row(s.tokens[static_cast<std::size_t>(s.computed)], s.computed, type_of(s, s.computed));
    s.draft.resize(static_cast<std::size_t>(w.drafts));
    for (int i = 0; i < w.drafts; ++i) plan_.add_row(s.draft[static_cast<std::size_t>(i)], s.computed + i);
    plan_.sequences.back().drafts = w.drafts;
    const auto end = static_cast<std::int32_t>(plan_.rows.size()) - w.drafts;
    if (s.request.embedding) {
      for (std::int32_t row = end - w.tokens; row < end; ++row) plan_.state_rows.push_back(row);
      continue;
    }
    if (s.unscored()) plan_scores(s, s.computed - w.tokens, end - w.tokens);
    if (s.computed == static_cast<int>(s.tokens.size()) && s.request.max_tokens > 0) {
      for (int i = 0; i <= w.drafts; ++i) {
        plan_.logit_rows.push_back(end - 1 + i);
        plan_.sampling.push_back(s.sampler.row(static_cast<std::uint64_t>(s.out + i)));
        if (i > 0 && s.guide) plan_.sampling.back().allowed = s.masks[static_cast<std::size_t>(i) - 1];
      }
    }
  }
  plan_.logits_wanted = logits_probe || ORCH_LOG_ON() || std::ranges::any_of(work, [this](const PlannedWork& w) {
                          return find(w.id)->request.hash_every > 0;
                        });
}

/// Of the positions from `first`, which is row `first_row` of the plan, those whose next token is the prompt's. A
/// sequence that has rested computes some again that were told before.
void Engine::plan_scores(Sequence& s, int first, std::int32_t first_row) {
  for (int p = std::max(first, s.scored); p < std::min(s.computed, s.prompt_size() - 1); ++p) {
    plan_.logit_rows.push_back(first_row + p - first);
    plan_.sampling.push_back(s.sampler.row_of_given(s.tokens[static_cast<std::size_t>(p) + 1]));
  }
}

void Engine::bound_scored(std::vector<PlannedWork>& work) {
  auto left = static_cast<int>(scored_rows(model_.graph().vocab));
  for (PlannedWork& w : work)
    if (find(w.id)->unscored()) left -= w.tokens = std::min(w.tokens, left);
  std::erase_if(work, [](const PlannedWork& w) { return w.tokens == 0; });
}

void Engine::take_scores(Sequence& s, std::span<Result<Sampled>> scores) {
  if (scores.empty()) return;
  PromptEvent event;
  for (Result<Sampled>& score : scores) {
    if (!score) return finish(s, std::move(score).error());
    event.tokens.push_back(*std::move(score));
  }
  s.scored += static_cast<int>(event.tokens.size());
  if (s.request.sink) s.request.sink(event);
}

void Engine::tell_progress(const Sequence& s) {
  if (s.request.progress && s.request.sink && !s.drawn)
    s.request.sink(
        ProgressEvent{s.prompt_size(), s.cached, std::min(s.computed, s.prompt_size()), ms_since(s.started)});
}

/// False when every sequence is paused.
bool Engine::compute() {
  std::ranges::sort(running_, {}, [](const auto& s) { return s->id; });  // the oldest grows first
  for (const auto& s : running_)
    if (!s->paused && !s->done) grow(*s);
  set_aside_rested();
  std::vector<SequenceState> states;
  for (const auto& s : running_)
    if (!s->paused && !s->done) {
      const int pending = static_cast<int>(s->tokens.size()) - s->computed;
      states.push_back({s->id, pending, pending > 1 || s->computed < s->prompt_size(), model_.graph().whole_prompts});
    }
  int room = model_.rows_max();  // rows beside those that are needed
  for (const SequenceState& state : states)
    room -= state.prefilling && !state.whole ? std::min(state.pending, options_.prefill_chunk) : state.pending;
  const int drafts = std::min(
      room, limits::kDraftsMax / static_cast<int>(std::max<std::size_t>(states.size(), 1)) - 1);  // all rows together
  for (SequenceState& state : states) {
    Sequence& s = *find(state.id);
    s.draft.clear();
    if (!state.prefilling && !state.whole) draft(s, drafts);
    state.drafts = static_cast<int>(s.draft.size());
  }
  if (states.empty()) return false;
  std::vector<PlannedWork> work = plan_step(states, model_.rows_max(), options_.prefill_chunk);
  if (!model_.graph().whole_prompts) bound_scored(work);
  for (const PlannedWork& w : work) {
    Sequence& s = *find(w.id);
    while (!s.rests && !see(s, s.computed + w.tokens)) rest(youngest_running());
  }
  for (const PlannedWork& w : work) {
    Sequence& s = *find(w.id);
    if (s.guide && s.computed + w.tokens == static_cast<int>(s.tokens.size())) guarded(s, [&] { constrain(s); });
  }
  std::erase_if(work, [&](const PlannedWork& w) { return find(w.id)->rests || find(w.id)->done; });
  set_aside_rested();
  if (work.empty()) return true;
  collect(work);
  Result<StepResult> result = model_.forward(plan_, *cache_);
  if (result)
    take_results(work, *result);
  else if (const ErrorCode code = result.error().code;
           code == ErrorCode::kVramOom || code == ErrorCode::kInsufficientMemory)
    refuse_largest(work, result.error());
  else
    break_down(std::move(result).error());
  return true;
}

void Engine::refuse_largest(std::span<const PlannedWork> work, const Error& error) {
  const int largest = std::ranges::max_element(work, {}, &PlannedWork::tokens)->id;
  for (const PlannedWork& w : work) {
    Sequence& s = *find(w.id);
    if (w.id == largest)
      finish(s, Error(error).in(fmt::format("request {}", s.id)));
    else
      rest(s);
  }
  set_aside_rested();
}

/// A sequence whose rows were not finite ends; what its neighbours computed does not depend on it.
void Engine::take_results(std::span<const PlannedWork> work, StepResult& result) {
  const auto dim = static_cast<std::size_t>(model_.graph().dim);
  std::size_t row = 0, first = 0, states = 0;
  for (const PlannedWork& w : work) {
    Sequence& s = *find(w.id);
    const auto tokens = static_cast<std::size_t>(w.tokens), rows = tokens + static_cast<std::size_t>(w.drafts);
    const std::span<const float> my_states = result.states.subspan(states, s.request.embedding ? tokens * dim : 0);
    std::size_t end = first;  // of its rows with logits; the last of them is drawn from, unless its token is given
    while (end < plan_.logit_rows.size() && static_cast<std::size_t>(plan_.logit_rows[end]) < row + rows) ++end;
    const bool sampled = end > first && plan_.sampling[end - 1].given < 0;
    const std::size_t drawn = sampled ? end - 1 - static_cast<std::size_t>(w.drafts) : end;
    guarded(s, [&] {
      if (Status finite = result.finite_rows(row, tokens); !finite)
        return finish(s, std::move(finite).error().in(fmt::format("request {}", s.id)));
      publish_full_pages(s);
      if (s.request.embedding) pool(s, my_states, w.tokens);
      take_scores(s, std::span(result.sampled).subspan(first, drawn - first));
      if (s.done) return;
      if (!s.request.embedding) tell_progress(s);
      if (!sampled) return end_of_prompt(s);
      take_drawn(s, std::span(result.sampled).subspan(drawn, end - drawn), result, row + tokens - 1, drawn);
    });
    row += rows, first = end, states += my_states.size();
  }
}

void Engine::take_drawn(Sequence& s, std::span<Result<Sampled>> drawn, const StepResult& result, std::size_t first_row,
                        std::size_t first_logits) {
  const auto vocab = static_cast<std::size_t>(model_.graph().vocab);
  const int begin = s.computed;  // tokens in front of the guesses
  const auto drafts = static_cast<int>(s.draft.size());
  s.drafted += drafts, drafted_ += drafts;
  for (int right = 0;; right = s.computed - begin) {
    const auto row = static_cast<std::size_t>(right);
    if (right > 0) publish_full_pages(s);
    if (plan_.logits_wanted) {
      const std::span<const float> logits = result.logits.subspan((first_logits + row) * vocab, vocab);
      if (logits_probe) logits_probe(s.id, s.computed - 1, logits);
      ORCH_LOG("logits", s.computed - 1, logits);
      if (const int every = s.request.hash_every; every > 0 && s.out % every == 0 && drawn[row])
        drawn[row]->logits_sha256 = hash_of(logits);
    }
    const bool hit = right < drafts && drawn[row] && drawn[row]->id == s.draft[row];
    s.accepted += hit, accepted_ += hit;
    take_token(s, std::move(drawn[row]));
    if (s.done) break;
    // A grammar or the end of a thought may have added more than was drawn.
    const int before = s.computed;
    while (s.computed < begin + drafts && s.computed < static_cast<int>(s.tokens.size()) &&
           s.tokens[static_cast<std::size_t>(s.computed)] == s.draft[static_cast<std::size_t>(s.computed - begin)])
      ++s.computed;
    const int more = s.computed - before;
    s.accepted += more - hit, accepted_ += more - hit;
    if (Status finite = result.finite_rows(first_row + row + 1, static_cast<std::size_t>(more)); !finite)
      return finish(s, std::move(finite).error().in(fmt::format("request {}", s.id)));
    if (s.computed < static_cast<int>(s.tokens.size())) break;
  }
  if (drafts > 0) s.drafter.learn(drafts, s.computed - begin);
}

void Engine::draft(Sequence& s, int most) {
  const SamplingParams& p = s.request.sampling;
  // Penalties make each token depend on the one before.
  if (options_.speculation == Speculation::kOff || p.repetition_penalty != 1 || p.presence_penalty != 0 ||
      p.frequency_penalty != 0)
    return;
  // No guess goes beyond its page, nor completes what recurrent layers remember at its end.
  const int room = kPage - 1 - s.computed % kPage - (recurrent() ? 1 : 0);
  most = std::min({most, room, s.request.max_tokens - s.out - 1});
  if (most <= 0) return;
  try {
    s.draft = guess_probe ? guess_probe(s.id, s.tokens, most) : s.drafter.guess(s.tokens, most);
    if (s.guide && !s.draft.empty()) constrain_draft(s);
  } catch (const std::exception&) {  // no memory to guess
    s.draft.clear();
  }
}

void Engine::constrain_draft(Sequence& s) {
  s.masks.resize(s.draft.size());
  Guide ahead = *s.guide;
  const auto enough = Clock::now() + kDraftMasksTime;
  for (std::size_t i = 0; i < s.draft.size(); ++i) {
    if (Clock::now() < enough && ahead.take(s.draft[i]) && !ahead.must_end()) {
      if (const auto bits = ahead.allowed()) {
        s.masks[i].assign(bits->begin(), bits->end());
        continue;
      }
    }
    s.draft.resize(i);
  }
  if (s.draft.empty()) s.drafter.learn(1, 0);
}

/// Where nothing is to be generated.
void Engine::end_of_prompt(Sequence& s) {
  if (s.request.embedding || s.request.max_tokens > 0 || s.computed < s.prompt_size()) return;
  finish(s, EndEvent{
                StopReason::kMaxTokens, std::nullopt, s.prompt_size(), 0, s.cached, 0, 0, ms_since(s.started), 0, {}});
}

void Engine::take_token(Sequence& s, Result<Sampled> token) {
  if (!s.drawn) s.prefill_ms = ms_since(s.started), s.first_token = Clock::now();
  s.drawn = true;
  if (!token) return finish(s, std::move(token).error());
  append(s, *std::move(token));
  if (s.thought && s.thought->due()) append_given(s, s.request.thought->ending, true);
  if (s.guide && !s.done) append_given(s, s.guide->forced());
}

void Engine::append(Sequence& s, Sampled token, bool mark) {
  const TokenId id = token.id;
  s.sampler.accept(id);
  if (s.guide && !s.guide->take(id))
    return finish(s, Error{ErrorCode::kInternal, fmt::format("token {} is none that the grammar allows", id)});
  std::optional<StopReason> reason;
  const auto emit = [&](const std::vector<TokenEvent>& events) {
    if (s.request.sink)
      for (const TokenEvent& e : events) s.request.sink(e);
  };
  if (tokenizer_.ends(id) && (s.guide || !s.request.ignore_eos)) {
    reason = StopReason::kEos;
  } else {
    s.tokens.push_back(id);
    ++s.out;
    const bool answer = !mark && !(s.thought && s.thought->hidden());
    if (s.thought) s.thought->take(tokenizer_.piece(id, true));
    emit(s.emitter.push(std::move(token), tokenizer_.piece(id), answer));
    if (s.emitter.matched())
      reason = StopReason::kStopSequence;
    else if (s.guide && s.guide->must_end())
      reason = StopReason::kEos;
    else if (s.out >= s.request.max_tokens)
      reason = StopReason::kMaxTokens;
  }
  if (!reason) return;
  emit(s.emitter.finish());
  EndEvent end{*reason,
               std::nullopt,
               s.prompt_size(),
               s.out,
               s.cached,
               s.drafted,
               s.accepted,
               s.prefill_ms,
               s.drawn ? ms_since(s.first_token) : 0,
               s.emitter.undecoded()};
  if (s.emitter.matched()) end.stop_sequence = s.request.stop[*s.emitter.matched()];
  finish(s, end);
}

void Engine::append_given(Sequence& s, const TokenIds& ids, bool mark) {
  for (const TokenId id : ids) {
    if (s.done) return;
    Sampled token{.id = id, .logprob = 0, .top = {}};
    if (s.request.sampling.top_logprobs > 0) token.top.push_back({id, 0});
    append(s, std::move(token), mark);
  }
}

void Engine::constrain(Sequence& s) {
  auto bits = s.guide->allowed();
  if (!bits) return finish(s, std::move(bits).error());
  s.sampler.allow(*bits);
}

}  // namespace llorch
