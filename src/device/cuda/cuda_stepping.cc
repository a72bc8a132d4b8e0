// A step of a CUDA device from begin() to finish(): its plan, its graph, its end.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "device/cuda/cuda_device.h"

namespace llorch {

static_assert(cuda::kTopsMax >= 20, "validate() of sample/sampler.h allows so many");

void CudaDevice::begin(const StepPlan& plan, Cache& cache) {
  if (std::exchange(running_, true) && !context_->lost) {
    // A step that was not finished uses the same memory, and its errors are its own.
    if (std::exchange(capturing_, nullptr)) (void)context_->stream.end_capture();
    (void)context_->wait();
    (void)context_->error.take();
  }
  keep(cuda::select_device(context_->index));
  keep(cuda::first_failure());
  cache_ = &cache;
  planned_ = !context_->lost && keep(step_.upload(context_, plan, cache.shape().windows.size()));
  rows_ = plan.rows;
  embeddings_ = plan.embeddings;
  sampling_ = plan.sampling, logits_wanted_ = plan.logits_wanted;
  logit_rows_ = plan.logit_rows.size(), state_rows_ = plan.state_rows.size();
  adapters_ = 0;
  for (const StepPlan::Sequence& s : plan.sequences) adapters_ = std::max(adapters_, s.adapter + 1);
  gathers_.clear();
  given_ = {};
}

cuda::FaultMark CudaDevice::mark(const Guard& guard) const {
  return {step_.on_device().faults, step_.set(guard.rows), guard.first, CudaStep::code(guard)};
}

CudaGraphs::Kind CudaDevice::kind_of_step(const void* walker) const {
  CudaGraphs::Kind kind;
  kind.walker = walker, kind.cache = cache_, kind.step = step_.on_device();
  kind.logit_rows = logit_rows_, kind.state_rows = state_rows_, kind.draws = sampling_.size();
  kind.adapters = adapters_, kind.logits_wanted = logits_wanted_;
  kind.logprobs = std::ranges::any_of(sampling_, [](const SamplingRow& r) { return wants_logprobs(r); });
  kind.frees = context_->frees;
  return kind;
}

bool CudaDevice::replay(const void* walker) {
  if (!computes() || context_->error.there() || rows_.size() > CudaGraphs::kRowsMax) return false;
  CudaGraphs::Entry& entry = graphs_.find(kind_of_step(walker));
  if (!entry.graph) {
    if (!CudaGraphs::wanted(entry)) return false;
    if (context_->stream.begin_capture())
      capturing_ = &entry;
    else
      CudaGraphs::refuse(entry);
    return false;
  }
  for (const Gather& g : entry.gathers) read_rows(pool_, *g.table, g.which, rows_, embeddings_, g.to, context_->error);
  if (!context_->error.there() && !context_->stream.launch(*entry.graph)) {
    CudaGraphs::refuse(entry);
    return false;
  }
  given_ = entry.given;
  ++replayed_;
  return true;
}

/// A step that was captured has not run yet. One that cannot be is launched, where what stays wrong shows again.
bool CudaDevice::repeat() {
  CudaGraphs::Entry* entry = std::exchange(capturing_, nullptr);
  if (!entry) return false;
  auto graph = context_->stream.end_capture();
  const Status captured = context_->error.take();
  if (graph && captured && context_->stream.launch(*graph)) {
    entry->gathers = std::move(gathers_), entry->given = given_;
    graphs_.keep(*entry, std::move(*graph));
    return false;
  }
  CudaGraphs::refuse(*entry);
  gathers_.clear();
  given_ = {};
  return true;
}

Result<StepResult> CudaDevice::finish() {
  LLORCH_ASSERT(!capturing_, "repeat() follows the operations of a step");
  if (!context_->lost) {
    keep(step_.download_faults(*context_));
    const auto begun = std::chrono::steady_clock::now();
    if (keep(context_->wait())) running_ = false;
    waited_ += std::chrono::steady_clock::now() - begun;
  }
  LLORCH_OK(context_->error.take());
  LLORCH_OK(context_->answers());
  LLORCH_OK(cuda::first_failure());
  StepResult result;
  result.faults = step_.faults();
  result.states = {states_.as<float>(), given_.states};
  if (logits_wanted_) result.logits = {logits_.as<float>(), given_.logits};
  const auto* drawn = drawn_.as<cuda::Drawn>();
  for (const SamplingRow& row : sampling_) result.sampled.push_back(sampled(*drawn++, row));
  return result;
}

Result<Sampled> CudaDevice::sampled(const cuda::Drawn& drawn, const SamplingRow& row) const {
  if (drawn.state != cuda::Drawn::kDrawn) {
    constexpr DrawProblem kProblems[] = {DrawProblem::kNotFinite, DrawProblem::kNoneAllowed,
                                         DrawProblem::kTopNotFinite};
    return draw_error(kProblems[drawn.state - cuda::Drawn::kNotFinite]);
  }
  Sampled out{.id = drawn.id, .logprob = 0, .top = {}};
  if (!wants_logprobs(row)) return out;
  const double offset = static_cast<double>(drawn.top) + std::log(drawn.sum);
  out.logprob = static_cast<double>(drawn.logit) - offset;
  for (std::int32_t i = 0; i < drawn.tops; ++i)
    out.top.push_back({drawn.ids[i], static_cast<double>(drawn.logits[i]) - offset});
  return out;
}

std::size_t CudaDevice::give(FloatSpan from, PinnedRoom& to) {
  if (from.empty()) return 0;
  auto* host = to.need<float>(context_, from.size());
  if (!host || !computes() || !keep(context_->copy_to_host(host, at(from), from.size() * sizeof(float)))) return 0;
  return from.size();
}

void CudaDevice::give_states(FloatSpan states) { given_.states = give(states, states_); }

void CudaDevice::give_logits(FloatSpan logits) {
  if (logits_wanted_) given_.logits = give(logits, logits_);
  draw_tokens(logits);
}

void CudaDevice::draw_tokens(FloatSpan logits) {
  const auto rows = static_cast<std::int64_t>(rehearsing_ ? logit_rows_ : sampling_.size());
  if (rows == 0) return;
  LLORCH_ASSERT(rows == logits.rows(), "tokens are drawn from all rows with logits, or from none");
  auto* room = draws_.need<std::byte>(context_, cuda::draw_bytes(rows, logits.width()));
  auto* host = drawn_.need<cuda::Drawn>(context_, static_cast<std::size_t>(rows));
  if (!room || !host || !computes()) return;
  const bool logprobs = std::ranges::any_of(sampling_, [](const SamplingRow& r) { return wants_logprobs(r); });
  cuda::draw(stream(), {at(logits), step_.draws(), step_.tail(), rows, logits.width(), logprobs, room});
  keep(context_->copy_to_host(host, room, static_cast<std::size_t>(rows) * sizeof(cuda::Drawn)));
}

bool CudaDevice::begin_rehearsal(const StepSizes& sizes, Cache& cache) {
  const auto count = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  CudaStep::Sizes step;
  step.rows = count(sizes.rows), step.sequences = count(sizes.sequences);
  step.logit_rows = step.draws = count(sizes.logit_rows), step.state_rows = count(sizes.state_rows);
  step.words = count(sizes.plan_words);
  step.positions = static_cast<std::int32_t>(sizes.positions),
  step.sequence_rows = static_cast<std::int32_t>(sizes.rows);
  rehearsing_ = true;
  keep(step_.make_room(context_, step));
  step_.pretend(step);
  cache_ = &cache;
  rows_.assign(count(sizes.rows), {});
  sampling_.clear(), logits_wanted_ = false;
  logit_rows_ = step.logit_rows, state_rows_ = step.state_rows;
  adapters_ = std::numeric_limits<std::int32_t>::max();  // each has a sequence
  gathers_.clear();
  given_ = {};
  return true;
}

Status CudaDevice::end_rehearsal() {
  rehearsing_ = false;
  rows_.clear(), gathers_.clear();
  return context_->error.take();
}

}  // namespace llorch
