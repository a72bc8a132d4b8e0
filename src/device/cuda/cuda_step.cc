#include "device/cuda/cuda_step.h"

#include <bit>
#include <cstring>

namespace llorch {

static_assert(sizeof(cuda::StepRow) == sizeof(StepPlan::Row) && sizeof(cuda::StepSave) == sizeof(StepPlan::Save));
static_assert(std::size(cuda::StepSequence{}.pages) == limits::kPageGroupsMax);

Status CudaStep::make_room(const std::shared_ptr<CudaContext>& context,
                           const std::array<std::size_t, kSections>& bytes) {
  step_.row_count = step_.sequence_count = 0;
  constexpr std::size_t kAlign = 256;
  bool fits = bytes_ > 0;
  for (std::size_t i = 0; i < kSections; ++i) fits &= bytes[i] <= capacity_[i];
  if (fits) return {};
  bytes_ = 0;
  std::size_t size = 0;
  for (std::size_t i = 0; i < kSections; ++i) {
    capacity_[i] = std::max(capacity_[i], std::bit_ceil(std::max(bytes[i], kAlign)));
    offsets_[i] = size;
    size += capacity_[i];
  }
  memory_ = CountedMemory();
  std::byte* image = image_.need(*context, size);
  if (!image) return context->error.take();
  std::memset(image, 0, size);
  LLORCH_TRY(memory_, CountedMemory::take(context, size));
  bytes_ = size;  // it is there: until now the next step takes it anew
  step_.rows = device<cuda::StepRow>(kRows);
  step_.sequences = device<cuda::StepSequence>(kSequences);
  step_.saves = device<cuda::StepSave>(kSaves);
  step_.pages = device<std::int32_t>(kPages);
  step_.faults = device<unsigned>(kFaults);
  return {};
}

void CudaStep::fill(const StepPlan& plan, std::size_t groups) {
  const auto copy = [&]<class T>(Section section, const std::vector<T>& from) {
    if (!from.empty()) std::memcpy(host<std::byte>(section), from.data(), from.size() * sizeof(T));
  };
  copy(kRows, plan.rows), copy(kLogitRows, plan.logit_rows), copy(kStateRows, plan.state_rows);
  std::memset(host<std::byte>(kFaults), 0, plan.rows.size() * sizeof(unsigned));
  auto* sequence = host<cuda::StepSequence>(kSequences);
  auto* pages = host<std::int32_t>(kPages);
  auto* saves = host<StepPlan::Save>(kSaves);
  std::int32_t row = 0, page = 0, save = 0;
  for (const StepPlan::Sequence& s : plan.sequences) {
    cuda::StepSequence to{};
    to.first = row, to.end = row += s.rows;
    to.slot = s.slot, to.restore = s.restore, to.drafts = s.drafts, to.adapter = s.adapter;
    to.saves = save, to.saves_end = save += static_cast<std::int32_t>(s.saves.size());
    std::ranges::copy(s.saves, saves + to.saves);
    for (std::size_t group = 0; group < groups; ++group) {
      to.pages[group] = page;
      std::ranges::copy(s.pages[group], pages + page);
      page += static_cast<std::int32_t>(s.pages[group].size());
    }
    *sequence++ = to;
  }
}

Status CudaStep::upload(const std::shared_ptr<CudaContext>& context, const StepPlan& plan, std::size_t groups) {
  std::size_t pages = 0, saves = 0, rows = 0;
  for (const StepPlan::Sequence& s : plan.sequences) {
    rows += static_cast<std::size_t>(s.rows);
    saves += s.saves.size();
    for (std::size_t group = 0; group < groups; ++group) pages += s.pages[group].size();
  }
  LLORCH_ASSERT(rows == plan.rows.size(), "rows of no sequence");
  LLORCH_OK(make_room(context, {rows * sizeof(cuda::StepRow), plan.sequences.size() * sizeof(cuda::StepSequence),
                                saves * sizeof(cuda::StepSave), pages * sizeof(std::int32_t),
                                plan.logit_rows.size() * sizeof(std::int32_t),
                                plan.state_rows.size() * sizeof(std::int32_t), rows * sizeof(unsigned)}));
  fill(plan, groups);
  std::int32_t last = 0, most = 1;
  for (const StepPlan::Row& row : plan.rows) last = std::max(last, row.position);
  for (const StepPlan::Sequence& s : plan.sequences) most = std::max(most, s.rows);
  step_.positions = static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint32_t>(last) + 1));
  step_.sequence_rows = static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint32_t>(most)));
  step_.row_count = static_cast<std::int32_t>(rows);
  step_.sequence_count = static_cast<std::int32_t>(plan.sequences.size());
  return context->stream.copy_to_device(memory_.as<std::byte>(), image_.data(), bytes_);
}

Status CudaStep::download_faults(CudaContext& context) {
  const std::size_t bytes = static_cast<std::size_t>(step_.row_count) * sizeof(unsigned);
  if (bytes == 0) return {};
  std::byte* to = downloaded_.need(context, bytes);
  if (!to) return context.error.take();
  return context.stream.copy_to_host(to, step_.faults, bytes);
}

std::span<const RowFault> CudaStep::faults() {
  faults_.assign(static_cast<std::size_t>(step_.row_count), {});
  const auto* codes = reinterpret_cast<const unsigned*>(downloaded_.data());
  for (std::size_t r = 0; r < faults_.size(); ++r)
    if (codes[r] != 0)
      faults_[r] = {true, static_cast<Place>((codes[r] - 1) % kPlaces), static_cast<int>((codes[r] - 1) / kPlaces)};
  return faults_;
}

}  // namespace llorch
