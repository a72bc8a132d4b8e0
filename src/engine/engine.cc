#include "engine/engine.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <new>

#include "base/clock.h"
#include "base/limits.h"
#include "base/thread_role.h"
#include "engine/orch_log.h"
#include "engine/scheduler.h"
#include "model/memory.h"

namespace llorch {
namespace {

constexpr int kPage = limits::kKvPagePositions;
using Clock = std::chrono::steady_clock;

/// Tokens between checkpoints inside a prompt.
constexpr int kCheckpointEvery = 1024;

/// Bytes that a step brings up from lower levels, while others wait for their next token and while none does.
constexpr std::int64_t kLiftedBesides = 16 << 20, kLiftedAlone = 256 << 20;

int pages_for(int positions) { return (positions + kPage - 1) / kPage; }

}  // namespace

std::string_view name(StopReason reason) {
  switch (reason) {
    case StopReason::kMaxTokens: return "MAX_TOKENS";
    case StopReason::kEos: return "EOS";
    case StopReason::kStopSequence: return "STOP_SEQUENCE";
  }
  return "ERROR";
}

struct Engine::Sequence {
  Sequence(int number, GenerateRequest r)
      : id(number),
        request(std::move(r)),
        sampler(request.sampling, request.prompt),
        emitter(request.stop),
        tokens(request.prompt) {}

  int id;
  GenerateRequest request;
  Sampler sampler;
  TextEmitter emitter;
  TokenIds tokens;                  // prompt and output
  std::vector<std::int32_t> pages;  // for all of `tokens`, before they are computed
  /// Of each window: page numbers, below 0 for what nobody sees any more; how many of those are in front.
  std::vector<std::vector<std::int32_t>> windowed;
  std::vector<int> slid;
  std::int32_t slot = -1;
  std::int32_t restore = -1;          // a checkpoint that it goes on from
  std::vector<StepPlan::Save> saves;  // of the step under way
  std::int32_t checkpoint = -1;       // of the last border that was reached since the prompt
  PageHash hash{};                    // of the full pages so far
  int hashed_pages = 0;
  int computed = 0;  // tokens whose keys and values are in the cache
  int cached = 0;    // of them, taken over from the prefix cache
  int out = 0;       // tokens generated
  bool done = false, paused = false, rests = false;
  std::optional<EngineEvent> last;  // that has not reached the sink
  Clock::time_point started, first_token;
  double prefill_ms = 0;
  std::vector<double> pooled;

  [[nodiscard]] int prompt_size() const { return static_cast<int>(request.prompt.size()); }
};

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
  options.prefill_chunk = std::clamp(options.prefill_chunk, 1, model.rows_max());
  options.max_batch = std::clamp(options.max_batch, 1, model.rows_max());
  const int pages = options.pages > 0
                        ? options.pages
                        : static_cast<int>(default_pages(model.graph(), model.graph().context, options.max_batch));
  CacheShape shape = model.cache_shape(pages, options.kv, options.max_batch, kCheckpointsEach * options.max_batch);
  for (std::size_t g = 1; g < shape.windows.size(); ++g)
    shape.pages[g] = static_cast<int>(window_pages(shape.windows[g], pages, options.max_batch, model.rows_max()));
  LLORCH_TRY(auto cache, model.device().make_cache(shape));
  return std::unique_ptr<Engine>(new Engine(model, tokenizer, std::move(options), std::move(cache), pages));
}

Result<int> Engine::submit(GenerateRequest request) {
  const int vocab = model_.graph().vocab, context = model_.graph().context;
  if (request.prompt.empty()) return fail(ErrorCode::kInvalidRequest, "the prompt is empty");
  if (request.embedding) request.max_tokens = 0;
  if (!request.embedding && !model_.graph().head.weight.there())
    return fail(ErrorCode::kInvalidRequest, "this model gives embeddings and no text");
  if (request.max_tokens < 1 && !request.embedding)
    return fail(ErrorCode::kInvalidRequest, "max_tokens must be at least 1");
  for (const TokenId id : request.prompt)
    if (id < 0 || id >= vocab)
      return fail(ErrorCode::kInvalidRequest, "token id {} is outside the vocabulary of {}", id, vocab);
  if (static_cast<std::int64_t>(request.prompt.size()) + request.max_tokens > context)
    return fail(ErrorCode::kContextLengthExceeded, "{} prompt tokens and {} requested tokens exceed the context of {}",
                request.prompt.size(), request.max_tokens, context);
  if (request.stop.size() > limits::kStopStringsMax)
    return fail(ErrorCode::kInvalidRequest, "stop: max_count({})", limits::kStopStringsMax);
  for (const std::string& stop : request.stop)
    if (stop.empty() || stop.size() > limits::kStopBytesMax)
      return fail(ErrorCode::kInvalidRequest, "stop: non_empty, max_length({})", limits::kStopBytesMax);
  LLORCH_OK(validate(request.sampling, vocab));
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

void Engine::evict_cache() {
  pages_.evict_all(), checkpoints_.evict_all();
  for (WindowGroup& group : windows_) group.pages.evict_all();
}

void Engine::leave_cache(Sequence& s) {
  for (std::size_t g = 0; g < s.windowed.size(); ++g) {
    for (const std::int32_t page : s.windowed[g])
      if (page >= 0) windows_[g].pages.drop(page);
    s.windowed[g].clear(), s.slid[g] = 0;
  }
  for (const std::int32_t page : s.pages) pages_.drop(page);
  s.pages.clear();
  for (const StepPlan::Save& save : s.saves) checkpoints_.drop(save.checkpoint);
  s.saves.clear();
  for (std::int32_t* checkpoint : {&s.restore, &s.checkpoint})
    if (*checkpoint >= 0) checkpoints_.drop(std::exchange(*checkpoint, -1));
  if (s.slot >= 0) free_slots_.push_back(std::exchange(s.slot, -1));
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

/// Nothing that was computed since the file changed may be used.
void Engine::break_down(Error error) {
  broken_ = std::move(error);
  for (auto* list : {&running_, &resting_, &waiting_})
    for (const auto& s : *list) finish(*s, *broken_);
}

/// Shares the cached beginning of what is known and takes pages for the rest; all or nothing. There must be room to
/// grow, too.
bool Engine::try_start(Sequence& s) {
  const int known = static_cast<int>(s.tokens.size()), need = pages_for(known);
  const int most = pages_for(s.prompt_size() + s.request.max_tokens);
  s.pages.reserve(static_cast<std::size_t>(most));  // so that no page is taken and then lost
  s.hash = root_hash(options_.model_id, s.request.cache_salt);
  std::vector<PageHash> hits = hits_of(s, true);
  const auto fits = [&] {
    int room = std::min(need + 1, most);
    for (const PageHash& hash : hits) room -= pages_.has(hash) && !pages_.idle(hash);
    return room <= pages_.available();
  };
  if (!fits()) return false;
  if (const Lift lifted = lift(hits); lifted != Lift::kDone) {
    if (lifted == Lift::kLater) return false;
    hits = hits_of(s, false);
    if (!fits()) return false;
  }
  s.saves.reserve(static_cast<std::size_t>(options_.prefill_chunk / kPage + 2));
  s.slot = free_slots_.back();  // as many as can run
  free_slots_.pop_back();
  if (recurrent() && !hits.empty()) s.restore = *checkpoints_.share(hits.back());
  for (const PageHash& hash : hits) {
    s.pages.push_back(*pages_.share(hash));
    s.hash = hash;
  }
  s.hashed_pages = static_cast<int>(hits.size());
  s.slid.resize(windows_.size()), s.windowed.resize(windows_.size());  // in this order: see leave_cache()
  for (std::size_t g = 0; g < windows_.size(); ++g) {
    std::vector<std::int32_t>& mine = s.windowed[g];
    mine.reserve(static_cast<std::size_t>(most));
    s.slid[g] = first_seen(windows_[g], s.hashed_pages * kPage);
    for (int p = 0; p < s.hashed_pages; ++p)
      mine.push_back(p < s.slid[g] ? -1 : *windows_[g].pages.share(hits[static_cast<std::size_t>(p)]));
  }
  s.computed = s.hashed_pages * kPage;
  while (static_cast<int>(s.pages.size()) < need) s.pages.push_back(*pages_.take());
  return true;
}

std::vector<PageHash> Engine::hits_of(const Sequence& s, bool below) const {
  // At least one token must be computed, to have logits; so the last page is shared only when the prompt goes beyond
  // it.
  const auto known = static_cast<int>(s.tokens.size());
  const int shareable = s.request.embedding ? 0 : (known - 1) / kPage;  // an embedding needs every state
  std::vector<PageHash> hits;
  for (PageHash hash = s.hash; static_cast<int>(hits.size()) < shareable;) {
    hash = chain_hash(hash, std::span(s.tokens).subspan(hits.size() * kPage, kPage));
    if (!pages_.has(hash) && !(below && is_below(0, hash))) break;
    hits.push_back(hash);
  }
  while (!hits.empty() && !can_go_on(hits, below)) hits.pop_back();
  return hits;
}

KvPages& Engine::pages_of(int group) {
  if (group == kCheckpointGroup) return checkpoints_;
  return group == 0 ? pages_ : windows_[static_cast<std::size_t>(group) - 1].pages;
}

Engine::Lift Engine::lift(std::span<const PageHash> hits) {
  if (!levels_ || hits.empty()) return Lift::kDone;
  struct Wanted {
    int group;
    std::span<const PageHash> hashes;
  };
  std::vector<Wanted> wanted{{0, hits}};
  for (std::size_t g = 0; g < windows_.size(); ++g) {
    const auto first = static_cast<std::size_t>(first_seen(windows_[g], static_cast<int>(hits.size()) * kPage));
    wanted.push_back({static_cast<int>(g) + 1, hits.subspan(std::min(first, hits.size()))});
  }
  if (recurrent()) wanted.push_back({kCheckpointGroup, hits.last(1)});

  // While they have an owner, none of them makes room for another.
  struct Held {
    std::vector<std::pair<KvPages*, std::int32_t>> pages;
    ~Held() {
      for (const auto& [of, page] : pages) of->drop(page);
    }
  } held;
  std::size_t count = 0;
  for (const Wanted& w : wanted) count += w.hashes.size();
  held.pages.reserve(count);
  const std::int64_t most = running_.empty() ? kLiftedAlone : kLiftedBesides;
  for (const bool missing : {false, true})
    for (const auto& [group, hashes] : wanted) {
      KvPages& pages = pages_of(group);
      Content content;
      for (const PageHash& hash : hashes) {
        if (pages.has(hash) == missing) continue;
        if (!missing) {
          held.pages.emplace_back(&pages, *pages.share(hash));
          continue;
        }
        if (lifted_ >= most) {
          lifts_ = true;
          return Lift::kLater;
        }
        content.resize(cache_->content_bytes(group));
        if (!levels_->get({group, hash}, content)) return Lift::kGone;
        const auto page = pages.take();
        if (!page) return Lift::kGone;
        held.pages.emplace_back(&pages, *page);
        cache_->write_content(group, *page, content);
        pages.publish(*page, hash);
        lifted_ += static_cast<std::int64_t>(content.size());
      }
    }
  return Lift::kDone;
}

void Engine::use(std::unique_ptr<CacheLevels> levels) {
  if (!options_.prefix_cache) return;
  levels_ = std::move(levels);
  for (int group = recurrent() ? kCheckpointGroup : 0; group <= static_cast<int>(windows_.size()); ++group)
    pages_of(group).watch(
        {[this, group](std::int32_t page, const PageHash& hash) { hand_down(group, page, hash, false); },
         [this, group](std::int32_t page, const PageHash& hash) { hand_down(group, page, hash, true); }});
}

void Engine::hand_down(int group, std::int32_t page, const PageHash& hash, bool leaves) noexcept {
  try {
    const ContentKey key{group, hash};
    if (leaves ? !levels_->wants_what_leaves(key) : !levels_->wants_to_store(key)) return;
    Content content(cache_->content_bytes(group));
    cache_->read_content(group, page, content);
    leaves ? levels_->leave(key, std::move(content)) : levels_->store(key, std::move(content));
  } catch (const std::exception&) {  // no memory: it is computed again one day
  }
}

int Engine::first_seen(const WindowGroup& group, int border) { return std::max(0, border + 1 - group.window) / kPage; }

/// Whether all that is remembered behind these pages is there: a state for some borders alone, of windowed layers what
/// is seen from there.
bool Engine::can_go_on(std::span<const PageHash> hashes, bool below) const {
  const auto there = [&](const KvPages& pages, int group, const PageHash& hash) {
    return pages.has(hash) || (below && is_below(group, hash));
  };
  if (recurrent() && !there(checkpoints_, kCheckpointGroup, hashes.back())) return false;
  for (std::size_t g = 0; g < windows_.size(); ++g) {
    const auto first = static_cast<std::size_t>(first_seen(windows_[g], static_cast<int>(hashes.size()) * kPage));
    for (const PageHash& hash : hashes.subspan(std::min(first, hashes.size())))
      if (!there(windows_[g].pages, static_cast<int>(g) + 1, hash)) return false;
  }
  return true;
}

bool Engine::see(Sequence& s, int end) {
  for (std::size_t g = 0; g < windows_.size(); ++g)
    while (static_cast<int>(s.windowed[g].size()) < pages_for(end)) {
      const auto page = windows_[g].pages.take();
      if (!page) return false;
      s.windowed[g].push_back(*page);
    }
  return true;
}

/// What was seen from the prompt's last border, or from one of those inside it that get a checkpoint, stays in the
/// cache: others may go on from there.
void Engine::slide(Sequence& s) {
  const int of_prompt = s.prompt_size() / kPage * kPage;
  for (std::size_t g = 0; g < windows_.size(); ++g) {
    const WindowGroup& group = windows_[g];
    for (const int first = first_seen(group, s.computed / kPage * kPage); s.slid[g] < first; ++s.slid[g]) {
      const int page = s.slid[g], next = (page / (kCheckpointEvery / kPage) + 1) * kCheckpointEvery;
      const auto serves = [&](int border) {
        return border <= of_prompt && page * kPage < border && page >= first_seen(group, border);
      };
      std::int32_t& number = s.windowed[g][static_cast<std::size_t>(page)];
      serves(of_prompt) || serves(next) ? windows_[g].pages.drop(number) : windows_[g].pages.discard(number);
      number = -1;
    }
  }
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
  finish(s, Error{ErrorCode::kKvOom, fmt::format("KV cache alloc of {} bytes ({} pages) failed: the cache has {} pages",
                                                 bytes, need, pages_.total())});
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
    return worked || undelivered();
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
    added.restore = s.restore, added.saves = s.saves;
    for (std::size_t g = 0; g < windows_.size(); ++g) added.pages[g + 1] = s.windowed[g];
    for (int i = 0; i < w.tokens; ++i, ++s.computed)
      plan_.add_row(s.tokens[static_cast<std::size_t>(s.computed)], s.computed);
    const auto end = static_cast<std::int32_t>(plan_.rows.size());
    if (s.request.embedding) {
      for (std::int32_t row = end - w.tokens; row < end; ++row) plan_.state_rows.push_back(row);
    } else if (s.computed == static_cast<int>(s.tokens.size())) {
      plan_.logit_rows.push_back(end - 1);
      plan_.sampling.push_back(s.sampler.row(static_cast<std::uint64_t>(s.out)));
    }
  }
  plan_.logits_wanted = logits_probe || ORCH_LOG_ON();
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
  if (states.empty()) return false;
  std::vector<PlannedWork> work = plan_step(states, model_.rows_max(), options_.prefill_chunk);
  for (const PlannedWork& w : work) {
    Sequence& s = *find(w.id);
    while (!s.rests && !see(s, s.computed + w.tokens)) rest(youngest_running());
  }
  std::erase_if(work, [&](const PlannedWork& w) { return find(w.id)->rests; });
  set_aside_rested();
  if (work.empty()) return true;
  collect(work);
  Result<StepResult> result = model_.forward(plan_, *cache_);
  if (result)
    take_results(work, *result);
  else
    break_down(std::move(result).error());
  return true;
}

/// A sequence whose rows were not finite ends; what its neighbours computed does not depend on it.
void Engine::take_results(std::span<const PlannedWork> work, StepResult& result) {
  const auto vocab = static_cast<std::size_t>(model_.graph().vocab), dim = static_cast<std::size_t>(model_.graph().dim);
  std::size_t row = 0, drawn = 0, states = 0;
  for (const PlannedWork& w : work) {
    Sequence& s = *find(w.id);
    const auto tokens = static_cast<std::size_t>(w.tokens);
    const std::span<const float> my_states = result.states.subspan(states, s.request.embedding ? tokens * dim : 0);
    const bool sampled =
        drawn < plan_.logit_rows.size() && static_cast<std::size_t>(plan_.logit_rows[drawn]) == row + tokens - 1;
    guarded(s, [&] {
      if (Status finite = result.finite_rows(row, tokens); !finite)
        return finish(s, std::move(finite).error().in(fmt::format("request {}", s.id)));
      publish_full_pages(s);
      if (s.request.embedding) pool(s, my_states, w.tokens);
      if (!sampled) return;
      if (plan_.logits_wanted) {
        const std::span<const float> logits = result.logits.subspan(drawn * vocab, vocab);
        if (logits_probe) logits_probe(s.id, s.computed - 1, logits);
        ORCH_LOG("logits", s.computed - 1, logits);
      }
      take_token(s, std::move(result.sampled[drawn]));
    });
    row += tokens, drawn += sampled, states += my_states.size();
  }
}

void Engine::want_checkpoints(Sequence& s, int end) {
  if (!recurrent() || !options_.prefix_cache || s.request.embedding) return;
  const int of_prompt = s.prompt_size() / kPage * kPage;
  for (int border = (s.computed / kPage + 1) * kPage; border <= end; border += kPage) {
    if (border < of_prompt && border % kCheckpointEvery != 0) continue;
    if (const auto checkpoint = checkpoints_.take()) s.saves.push_back({border, *checkpoint});
  }
}

/// The state behind the pages that were hashed last. Those of a prompt stay in the cache; behind it one for each border
/// is too much: the last one stays.
void Engine::publish_checkpoint(Sequence& s, int position) {
  const auto save = std::ranges::find(s.saves, position, &StepPlan::Save::position);
  if (save == s.saves.end()) return;
  const std::int32_t checkpoint = save->checkpoint;
  s.saves.erase(save);
  checkpoints_.publish(checkpoint, s.hash);
  if (position <= s.prompt_size()) return checkpoints_.drop(checkpoint);
  if (s.checkpoint >= 0) checkpoints_.discard(s.checkpoint);
  s.checkpoint = checkpoint;
}

void Engine::publish_full_pages(Sequence& s) {
  if (s.restore >= 0) checkpoints_.drop(std::exchange(s.restore, -1));
  if (s.request.embedding) return slide(s);  // it goes on from nothing, and nothing from it
  while ((s.hashed_pages + 1) * kPage <= s.computed) {
    s.hash = chain_hash(s.hash, std::span(s.tokens).subspan(static_cast<std::size_t>(s.hashed_pages) * kPage, kPage));
    const std::int32_t page = s.pages[static_cast<std::size_t>(s.hashed_pages)];
    pages_.publish(page, s.hash);
    if (levels_) hand_down(0, page, s.hash, false);
    for (std::size_t g = 0; g < windows_.size(); ++g)
      windows_[g].pages.publish(s.windowed[g][static_cast<std::size_t>(s.hashed_pages)], s.hash);
    ++s.hashed_pages;
    publish_checkpoint(s, s.hashed_pages * kPage);
  }
  slide(s);
}

void Engine::pool(Sequence& s, std::span<const float> states, int tokens) {
  const std::size_t dim = states.size() / static_cast<std::size_t>(tokens);
  s.pooled.resize(dim);
  for (int i = 0; i < tokens; ++i) {
    const int position = s.computed - tokens + i;
    const bool wanted = *s.request.embedding == Pooling::kMean ||
                        position == (*s.request.embedding == Pooling::kFirst ? 0 : s.prompt_size() - 1);
    if (!wanted) continue;
    for (std::size_t d = 0; d < dim; ++d)
      s.pooled[d] += static_cast<double>(states[static_cast<std::size_t>(i) * dim + d]);
  }
  if (s.computed < s.prompt_size()) return;
  double squares = 0;
  for (const double v : s.pooled) squares += v * v;
  if (!std::isfinite(squares))
    return finish(s, Error{ErrorCode::kInferenceFailed, "the states of the prompt are not finite"});
  EmbeddingEvent event;
  for (const double v : s.pooled) event.values.push_back(static_cast<float>(squares > 0 ? v / std::sqrt(squares) : 0));
  if (s.request.sink) s.request.sink(event);
  finish(s, EndEvent{StopReason::kEos, std::nullopt, s.prompt_size(), 0, 0, ms_since(s.started), 0, {}});
}

void Engine::take_token(Sequence& s, Result<Sampled> token) {
  if (s.out == 0) s.prefill_ms = ms_since(s.started), s.first_token = Clock::now();
  if (!token) return finish(s, std::move(token).error());
  s.sampler.accept(token->id);
  std::optional<StopReason> reason;
  const auto emit = [&](const std::vector<TokenEvent>& events) {
    if (s.request.sink)
      for (const TokenEvent& e : events) s.request.sink(e);
  };
  if (tokenizer_.ends(token->id) && !s.request.ignore_eos) {
    reason = StopReason::kEos;
  } else {
    const TokenId id = token->id;
    s.tokens.push_back(id);
    ++s.out;
    emit(s.emitter.push(std::move(*token), tokenizer_.piece(id)));
    if (s.emitter.matched())
      reason = StopReason::kStopSequence;
    else if (s.out >= s.request.max_tokens)
      reason = StopReason::kMaxTokens;
  }
  if (!reason) return;
  emit(s.emitter.finish());
  EndEvent end{*reason,  std::nullopt, s.prompt_size(),         s.out,
               s.cached, s.prefill_ms, ms_since(s.first_token), s.emitter.undecoded()};
  if (s.emitter.matched()) end.stop_sequence = s.request.stop[*s.emitter.matched()];
  finish(s, end);
}

}  // namespace llorch
