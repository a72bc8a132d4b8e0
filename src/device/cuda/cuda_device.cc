#include "device/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "cuda/kernel/rows.h"
#include "device/cuda/cuda_rope.h"

namespace llorch {
namespace {

constexpr std::int64_t kGatherRows = 16;  // of one piece

}  // namespace

Result<std::unique_ptr<CudaDevice>> CudaDevice::make(int index, int threads) {
  LLORCH_TRY(cuda::DeviceProperties properties, cuda::device_properties(index));
  LLORCH_OK(cuda::select_device(index));
  auto context = std::make_shared<CudaContext>();
  context->index = index;
  LLORCH_TRY(context->stream, cuda::Stream::create());
  std::unique_ptr<CudaDevice> device(new CudaDevice(std::move(context), threads));
  LLORCH_TRY(device->done_, cuda::Event::create());
  device->isa_ = properties.emulated
                     ? "cuda-emulated"
                     : fmt::format("cuda-sm{}{}", properties.capability_major, properties.capability_minor);
  device->properties_ = std::move(properties);
  return device;
}

/// What was enqueued may still use memory of the members.
CudaDevice::~CudaDevice() { (void)context_->stream.synchronize(); }

Result<OpenDevice> open_cuda_device(int index, int threads) {
  LLORCH_TRY(auto device, CudaDevice::make(index, threads));
  OpenDevice opened;
  opened.id = fmt::format("cuda:{}", index);
  opened.name = fmt::format("{} ({})", device->properties().name, device->isa());
  opened.device = std::move(device);
  return opened;
}

Result<std::unique_ptr<Weight>> CudaDevice::matrix(const TensorView& tensor, std::int64_t parts, const Read& read) {
  return pack_weight(context_, tensor, parts, read);
}

Result<std::unique_ptr<Weight>> CudaDevice::table(const TensorView& tensor, Read read) {
  if (!quant::find_row_ops(tensor.type))
    return bad_model("tensor '{}' has type {}, which is no weight type", tensor.name, info(tensor.type).name);
  return std::make_unique<RawWeight>(tensor, 1, std::move(read));
}

Result<FloatBuffer> CudaDevice::allocate(std::int64_t rows, std::int64_t width) {
  LLORCH_TRY(CountedMemory taken,
             CountedMemory::take(context_, static_cast<std::size_t>(rows * width) * sizeof(float)));
  auto memory = std::make_shared<CountedMemory>(std::move(taken));
  auto* data = memory->as<float>();
  return FloatBuffer(DeviceKey(*this), std::move(memory), data, rows, width);
}

Result<std::unique_ptr<Cache>> CudaDevice::make_cache(const CacheShape& shape) {
  return CudaCache::make(context_, shape);
}

Result<std::unique_ptr<RopeTable>> CudaDevice::make_rope(const RopeSpec& spec) {
  auto rope = std::make_unique<CudaRope>(spec);
  const std::size_t bytes = spec.frequencies.size() * sizeof(double);
  LLORCH_TRY(rope->frequencies, CountedMemory::take(context_, bytes));
  if (bytes > 0)
    LLORCH_OK(context_->stream.copy_to_device(rope->frequencies.as<double>(), spec.frequencies.data(), bytes));
  LLORCH_OK(context_->stream.synchronize());
  return rope;
}

void CudaDevice::upload(std::span<const float> from, FloatSpan to) {
  LLORCH_ASSERT(from.size() <= to.size(), "upload beyond the buffer");
  if (from.empty()) return;
  keep(cuda::select_device(context_->index));
  keep(context_->stream.copy_to_device(at(to), from.data(), from.size_bytes()));
  keep(context_->stream.synchronize());
}

void CudaDevice::download(FloatSpan from, std::span<float> to) {
  LLORCH_ASSERT(to.size() <= from.size(), "download beyond the buffer");
  if (to.empty()) return;
  keep(cuda::select_device(context_->index));
  if (!keep(context_->stream.copy_to_host(to.data(), at(from), to.size_bytes())) ||
      !keep(context_->stream.synchronize()))
    std::ranges::fill(to, 0.0f);
}

void CudaDevice::begin(const StepPlan& plan, Cache& cache) {
  if (std::exchange(running_, true)) {  // a step that was not finished uses the same memory, and its errors are its own
    (void)context_->stream.synchronize();
    (void)context_->error.take();
  }
  keep(cuda::select_device(context_->index));
  keep(cuda::first_failure());
  cache_ = &cache;
  planned_ = keep(step_.upload(context_, plan, cache.shape().windows.size()));
  rows_ = plan.rows;
  embeddings_ = plan.embeddings;
  sampling_ = plan.sampling, logits_wanted_ = plan.logits_wanted;
  adapters_ = 0;
  for (const StepPlan::Sequence& s : plan.sequences) adapters_ = std::max(adapters_, s.adapter + 1);
  gathers_ = 0;
  logits_.count = states_.count = 0;
}

Result<StepResult> CudaDevice::finish() {
  keep(step_.download_faults(*context_));
  if (keep(context_->stream.record(done_)) && keep(done_.synchronize())) running_ = false;
  LLORCH_OK(context_->error.take());
  LLORCH_OK(cuda::first_failure());
  StepResult result;
  result.faults = step_.faults();
  result.states = states_.values();
  if (logits_wanted_) result.logits = logits_.values();
  draw_tokens(result);
  return result;
}

cuda::FaultMark CudaDevice::mark(const Guard& guard) const {
  return {step_.on_device().faults, step_.set(guard.rows), guard.first, CudaStep::code(guard)};
}

template<class Row>
bool CudaDevice::gather(FloatSpan of, float* to, const Row& row) {
  if (gathers_ == gathered_.size()) gathered_.push_back(std::make_unique<PinnedRoom>());
  const std::int64_t rows = of.rows(), width = of.width();
  auto* values = reinterpret_cast<float*>(gathered_[gathers_++]->need(*context_, of.size() * sizeof(float)));
  if (of.empty() || !values || !to) return false;
  pool_.run((rows + kGatherRows - 1) / kGatherRows, [&](std::int64_t piece) {
    for (std::int64_t r = piece * kGatherRows; r < std::min(rows, (piece + 1) * kGatherRows); ++r)
      context_->error.add(row(r, values + r * width));
  });
  return keep(context_->stream.copy_to_device(to, values, of.size() * sizeof(float)));
}

void CudaDevice::embed_tokens(const Weight& table, FloatSpan out) {
  const auto& raw = static_cast<const RawWeight&>(table);
  const std::int64_t width = out.width();
  gather(out, at(out), [&](std::int64_t r, float* to) -> Status {
    const std::int32_t token = rows_[static_cast<std::size_t>(r)].token;
    LLORCH_ASSERT(token < raw.rows(), "token id outside the vocabulary");
    if (token >= 0) return raw.row(token, to);
    std::copy_n(embeddings_.data() + (-1 - std::int64_t{token}) * width, width, to);
    return {};
  });
}

void CudaDevice::look_up_tokens(const Weight& table, FloatSpan out) {
  const auto& raw = static_cast<const RawWeight&>(table);
  LLORCH_ASSERT(out.width() == raw.columns(), "a table of another width");
  gather(out, at(out),
         [&](std::int64_t r, float* to) { return raw.row(std::max(rows_[static_cast<std::size_t>(r)].token, 0), to); });
}

void CudaDevice::add_rows_of(const Weight& table, std::int32_t StepPlan::Row::*index, FloatSpan out) {
  const auto& raw = static_cast<const RawWeight&>(table);
  auto* rows = added_rows_.need<float>(context_, out.size());
  const bool there = gather(out, rows, [&](std::int64_t r, float* to) {
    const std::int32_t which = rows_[static_cast<std::size_t>(r)].*index;
    LLORCH_ASSERT(which >= 0 && which < raw.rows(), "a position or token type outside the table");
    return raw.row(which, to);
  });
  if (there) cuda::add_values(stream(), rows, 1, static_cast<std::int64_t>(out.size()), at(out));
}

void CudaDevice::add_positions(const Weight& table, FloatSpan out) {
  add_rows_of(table, &StepPlan::Row::position, out);
}
void CudaDevice::add_types(const Weight& table, FloatSpan out) { add_rows_of(table, &StepPlan::Row::type, out); }

void CudaDevice::give(FloatSpan from, Given& to) {
  to.count = 0, to.width = static_cast<std::size_t>(from.width());
  if (from.empty()) return;
  std::byte* host = to.memory.need(*context_, from.size() * sizeof(float));
  if (host && keep(context_->stream.copy_to_host(host, at(from), from.size() * sizeof(float)))) to.count = from.size();
}

void CudaDevice::give_states(FloatSpan states) { give(states, states_); }
void CudaDevice::give_logits(FloatSpan logits) {
  if (logits_wanted_ || !sampling_.empty()) give(logits, logits_);
}

void CudaDevice::draw_tokens(StepResult& result) {
  result.sampled.resize(sampling_.size(), std::unexpected(Error{}));
  const std::span<const float> logits = logits_.values();
  if (logits.empty()) {
    LLORCH_ASSERT(sampling_.empty(), "tokens are drawn from logits that nobody gave");
    return;
  }
  pool_.run(static_cast<std::int64_t>(sampling_.size()), [&](std::int64_t i) {
    thread_local SamplingScratch scratch;
    const auto row = static_cast<std::size_t>(i);
    try {
      result.sampled[row] = sample_row(logits.subspan(row * logits_.width, logits_.width), sampling_[row], scratch);
    } catch (const std::bad_alloc&) {
      result.sampled[row] = fail(ErrorCode::kInsufficientMemory, "memory ran out while the request was computed");
    }
  });
}

}  // namespace llorch
