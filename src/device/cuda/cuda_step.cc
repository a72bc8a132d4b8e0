#include "device/cuda/cuda_step.h"

#include <bit>
#include <cstring>

#include "base/random.h"

namespace llorch {

static_assert(sizeof(cuda::StepRow) == sizeof(StepPlan::Row) && sizeof(cuda::StepSave) == sizeof(StepPlan::Save));
static_assert(std::size(cuda::StepSequence{}.pages) == limits::kPageGroupsMax);

namespace {

constexpr std::size_t kWord = sizeof(std::int32_t);

cuda::DrawKnown changed(const KnownToken& k, const SamplingParams& p) {
  cuda::DrawKnown out;
  out.id = static_cast<std::uint32_t>(k.id) | (k.seen ? cuda::DrawKnown::kSeen : 0);
  out.bias = k.bias;
  if (k.times > 0) out.minus = static_cast<float>(p.presence_penalty + p.frequency_penalty * k.times);
  return out;
}

}  // namespace

CudaStep::Sizes CudaStep::Sizes::of(const StepPlan& plan, std::size_t groups) {
  Sizes out;
  out.rows = plan.rows.size(), out.sequences = plan.sequences.size();
  out.logit_rows = plan.logit_rows.size(), out.state_rows = plan.state_rows.size(), out.draws = plan.sampling.size();
  for (const StepPlan::Row& row : plan.rows) out.positions = std::max(out.positions, row.position + 1);
  for (const StepPlan::Sequence& s : plan.sequences) out.sequence_rows = std::max(out.sequence_rows, s.rows);
  for (const StepPlan::Sequence& s : plan.sequences) {
    out.words += s.saves.size_bytes() / kWord;
    for (std::size_t group = 0; group < groups; ++group) out.words += s.pages[group].size();
  }
  for (const SamplingRow& row : plan.sampling)
    out.words += row.known.size() * sizeof(cuda::DrawKnown) / kWord + row.allowed.size();
  return out;
}

Status CudaStep::make_room(const std::shared_ptr<CudaContext>& context, const Sizes& sizes) {
  step_.row_count = step_.sequence_count = 0;
  constexpr std::size_t kAlign = 256;
  const std::array<std::size_t, kSections> bytes = {sizes.rows * sizeof(cuda::StepRow),
                                                    sizes.sequences * sizeof(cuda::StepSequence),
                                                    sizes.logit_rows * kWord,
                                                    sizes.state_rows * kWord,
                                                    sizes.draws * sizeof(cuda::StepDraw),
                                                    sizes.rows * sizeof(unsigned),
                                                    sizes.words * kWord};
  bool fits = bytes_ > 0 && downloaded_.bytes() >= bytes[kFaults];
  for (std::size_t i = 0; i < kSections; ++i) fits &= bytes[i] <= capacity_[i];
  if (fits) return {};
  bytes_ = 0;
  std::size_t size = 0;
  auto capacity = capacity_, offsets = offsets_;
  for (std::size_t i = 0; i < kSections; ++i) {
    if (bytes[i] > capacity[i] || capacity[i] == 0) {  // as asked for at first; what grows later grows for more
      const std::size_t grown = capacity[i] > 0 ? std::bit_ceil(bytes[i]) : bytes[i];
      capacity[i] = (std::max(grown, kAlign) + kAlign - 1) / kAlign * kAlign;
    }
    offsets[i] = size;
    size += capacity[i];
  }
  memory_ = CountedMemory();
  auto* image = image_.need<std::byte>(context, size);
  if (!image || !downloaded_.need<std::byte>(context, capacity[kFaults])) return context->error.take();
  if (!context->measuring) std::memset(image, 0, size);
  LLORCH_TRY(memory_, CountedMemory::take(context, size));
  capacity_ = capacity, offsets_ = offsets;  // where there was no memory, a smaller step does not ask for as much
  bytes_ = size;                             // it is there: until now the next step takes it anew
  step_.rows = device<cuda::StepRow>(kRows);
  step_.sequences = device<cuda::StepSequence>(kSequences);
  step_.saves = device<cuda::StepSave>(kTail);
  step_.pages = device<std::int32_t>(kTail);
  step_.faults = device<unsigned>(kFaults);
  return {};
}

template<class T>
std::int32_t CudaStep::append(std::span<const T> values) {
  static_assert(sizeof(T) % kWord == 0);
  const std::size_t at = words_;
  words_ += values.size_bytes() / kWord;
  LLORCH_ASSERT(words_ * kWord <= capacity_[kTail], "a step's plan beyond its room");
  if (!values.empty()) std::memcpy(host<std::int32_t>(kTail) + at, values.data(), values.size_bytes());
  return static_cast<std::int32_t>(at);
}

void CudaStep::fill(const StepPlan& plan, std::size_t groups) {
  const auto copy = [&]<class T>(Section section, const std::vector<T>& from) {
    if (!from.empty()) std::memcpy(host<std::byte>(section), from.data(), from.size() * sizeof(T));
  };
  copy(kRows, plan.rows), copy(kLogitRows, plan.logit_rows), copy(kStateRows, plan.state_rows);
  std::memset(host<std::byte>(kFaults), 0, plan.rows.size() * sizeof(unsigned));
  words_ = 0;
  auto* sequence = host<cuda::StepSequence>(kSequences);
  std::int32_t row = 0;
  for (const StepPlan::Sequence& s : plan.sequences) {  // saves first: they are counted by themselves, not by words
    cuda::StepSequence to{};
    to.first = row, to.end = row += s.rows;
    to.slot = s.slot, to.restore = s.restore, to.drafts = s.drafts, to.adapter = s.adapter;
    to.saves = append(s.saves) / static_cast<std::int32_t>(sizeof(cuda::StepSave) / kWord);
    to.saves_end = to.saves + static_cast<std::int32_t>(s.saves.size());
    *sequence++ = to;
  }
  LLORCH_ASSERT(static_cast<std::size_t>(row) == plan.rows.size(), "rows of no sequence");
  sequence = host<cuda::StepSequence>(kSequences);
  for (const StepPlan::Sequence& s : plan.sequences) {
    for (std::size_t group = 0; group < groups; ++group) sequence->pages[group] = append(s.pages[group]);
    ++sequence;
  }
  fill_draws(plan);
}

void CudaStep::fill_draws(const StepPlan& plan) {
  auto* to = host<cuda::StepDraw>(kDraws);
  std::vector<cuda::DrawKnown> known;
  for (const SamplingRow& row : plan.sampling) {
    const SamplingParams& p = *row.params;
    cuda::StepDraw d;
    d.greedy = p.temperature < SamplingParams::kGreedyBelow;
    d.factor = d.greedy || row.given >= 0 ? 1 : static_cast<float>(1 / p.temperature);
    d.repetition_penalty = static_cast<float>(p.repetition_penalty);
    d.top_k = p.top_k, d.top_p = p.top_p, d.min_p = p.min_p;
    d.point = uniform(p.seed, p.choice, row.step);
    d.given = row.given, d.tops = p.top_logprobs;
    known.clear();
    for (const KnownToken& k : row.known) known.push_back(changed(k, p));
    d.known = append(std::span<const cuda::DrawKnown>(known)), d.known_count = static_cast<std::int32_t>(known.size());
    if (!row.allowed.empty())
      d.allowed = append(row.allowed), d.allowed_words = static_cast<std::int32_t>(row.allowed.size());
    *to++ = d;
  }
}

Status CudaStep::upload(const std::shared_ptr<CudaContext>& context, const StepPlan& plan, std::size_t groups) {
  const Sizes sizes = Sizes::of(plan, groups);
  LLORCH_OK(make_room(context, sizes));
  fill(plan, groups);
  pretend(sizes);
  return context->copy_to_device(memory_.as<std::byte>(), image_.as<std::byte>(), offsets_[kTail] + words_ * kWord);
}

void CudaStep::pretend(const Sizes& sizes) {
  step_.row_count = static_cast<std::int32_t>(sizes.rows);
  step_.sequence_count = static_cast<std::int32_t>(sizes.sequences);
  const auto bound = [](std::int32_t n) {
    return static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint32_t>(n)));
  };
  step_.positions = bound(sizes.positions), step_.sequence_rows = bound(sizes.sequence_rows);
}

Status CudaStep::download_faults(CudaContext& context) {
  const std::size_t bytes = static_cast<std::size_t>(step_.row_count) * sizeof(unsigned);
  if (bytes == 0) return {};
  return context.copy_to_host(downloaded_.as<std::byte>(), step_.faults, bytes);
}

std::span<const RowFault> CudaStep::faults() {
  faults_.assign(static_cast<std::size_t>(step_.row_count), {});
  const auto* codes = downloaded_.as<unsigned>();
  for (std::size_t r = 0; r < faults_.size(); ++r)
    if (codes[r] != 0)
      faults_[r] = {true, static_cast<Place>((codes[r] - 1) % kPlaces), static_cast<int>((codes[r] - 1) / kPlaces)};
  return faults_;
}

}  // namespace llorch
