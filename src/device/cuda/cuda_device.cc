#include "device/cuda/cuda_device.h"

#include <algorithm>
#include <limits>

#include "cuda/kernel/attention.h"
#include "cuda/kernel/rows.h"
#include "device/cuda/cuda_rope.h"

namespace llorch {
namespace {

/// A step of a large model and many rows takes a second. The emulated device takes its time.
constexpr std::chrono::minutes kStepLimit{2}, kEmulatedStepLimit{60};
/// Graphs, and what a driver keeps for kernels that run: nobody counts them before.
constexpr std::int64_t kReserveBytes = std::int64_t{256} << 20;
constexpr std::size_t kCanaryBytes = 4096;
constexpr unsigned char kCanary = 0x5a;

/// As --kv-type has it.
std::string_view name_of(KvPrecision precision) {
  return precision == KvPrecision::kF32 ? "f32" : precision == KvPrecision::kF16 ? "f16" : "q8_0";
}

}  // namespace

Result<std::unique_ptr<CudaDevice>> CudaDevice::make(int index, int threads) {
  LLORCH_TRY(cuda::DeviceProperties properties, cuda::device_properties(index));
  LLORCH_OK(cuda::select_device(index));
  auto context = std::make_shared<CudaContext>();
  context->index = index;
  LLORCH_TRY(context->stream, cuda::Stream::create());
  LLORCH_TRY(context->watch, CudaWatch::make(index));
  std::unique_ptr<CudaDevice> device(new CudaDevice(context, threads));
  device->set_properties(std::move(properties));
  LLORCH_TRY(device->canary_, CountedMemory::take(context, kCanaryBytes));
  LLORCH_TRY(device->canary_copy_, PinnedBytes::take(context, kCanaryBytes));
  LLORCH_OK(context->fill(device->canary_.as<std::byte>(), kCanary, kCanaryBytes));
  return device;
}

void CudaDevice::set_properties(cuda::DeviceProperties properties) {
  isa_ = properties.emulated ? "cuda-emulated"
                             : fmt::format("cuda-sm{}{}", properties.capability_major, properties.capability_minor);
  context_->limit = properties.emulated ? kEmulatedStepLimit : kStepLimit;
  properties_ = std::move(properties);
}

/// What was enqueued may still use memory of the members; a device that does not answer keeps it.
CudaDevice::~CudaDevice() { (void)context_->wait(); }

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
  for (const CacheLayer& layer : shape.layers) {
    const std::size_t needed = cuda::attend_shared_bytes(cuda::KvLayer::make(layer, 0, shape.precision)),
                      most = properties_.shared_bytes_per_block_max;
    if (needed > most) {
      return fail(
          ErrorCode::kModelLoadFailed,
          "attention over heads of {} dimensions, remembered as {}, takes {} bytes of shared memory, and {} has "
          "{} for a block{}",
          layer.head_dim, name_of(shape.precision), needed, properties_.name, most,
          shape.precision == KvPrecision::kF32 ? ": f16 and q8_0 (--kv-type) take less" : "");
    }
  }
  return CudaCache::make(context_, shape);
}

Result<std::unique_ptr<RopeTable>> CudaDevice::make_rope(const RopeSpec& spec) {
  auto rope = std::make_unique<CudaRope>(spec);
  const std::size_t bytes = spec.frequencies.size() * sizeof(double);
  LLORCH_TRY(rope->frequencies, CountedMemory::take(context_, bytes));
  LLORCH_OK(context_->copy_to_device(rope->frequencies.as<double>(), spec.frequencies.data(), bytes));
  LLORCH_OK(context_->synchronize());
  return rope;
}

void CudaDevice::upload(std::span<const float> from, FloatSpan to) {
  LLORCH_ASSERT(from.size() <= to.size(), "upload beyond the buffer");
  if (from.empty()) return;
  keep(cuda::select_device(context_->index));
  keep(context_->copy_to_device(at(to), from.data(), from.size_bytes()));
  keep(context_->synchronize());
}

void CudaDevice::download(FloatSpan from, std::span<float> to) {
  LLORCH_ASSERT(to.size() <= from.size(), "download beyond the buffer");
  if (to.empty()) return;
  keep(cuda::select_device(context_->index));
  if (context_->measuring || !keep(context_->copy_to_host(to.data(), at(from), to.size_bytes())) ||
      !keep(context_->synchronize()))
    std::ranges::fill(to, 0.0f);
}

std::optional<MemoryUse> CudaDevice::memory() const {
  MemoryUse use;
  use.taken = static_cast<std::int64_t>(memory_bytes());
  if (context_->measuring) return use;
  const auto now = cuda::device_properties(context_->index);
  if (!now) return use;
  use.free = static_cast<std::int64_t>(now->memory_free_bytes);
  use.reserve = properties_.emulated ? 0 : kReserveBytes;
  use.total = static_cast<std::int64_t>(now->memory_bytes);
  return use;
}

std::unique_ptr<Device> CudaDevice::measuring() const {
  auto context = std::make_shared<CudaContext>();
  context->index = context_->index, context->measuring = true;
  std::unique_ptr<CudaDevice> device(new CudaDevice(std::move(context), 1));
  device->set_properties(properties_);
  return device;
}

Status CudaDevice::check_resident() {
  LLORCH_OK(cuda::select_device(context_->index));
  LLORCH_OK(cuda::first_failure());
  LLORCH_OK(context_->answers());
  LLORCH_OK(context_->check_resident());
  const std::span back(canary_copy_.as<unsigned char>(), kCanaryBytes);
  LLORCH_OK(context_->copy_to_host(back.data(), canary_.as<std::byte>(), kCanaryBytes));
  LLORCH_OK(context_->wait());
  if (std::ranges::any_of(back, [](unsigned char c) { return c != kCanary; }))
    return fail(ErrorCode::kCudaError, "what was written to the memory of cuda:{} is not there any more",
                context_->index);
  return {};
}

bool CudaDevice::gather(const Weight& table, TableRow which, FloatSpan of, float* to) {
  const auto& raw = static_cast<const RawWeight&>(table);
  LLORCH_ASSERT(of.width() == raw.columns() && of.rows() == static_cast<std::int64_t>(rows_.size()),
                "a table of another width, or other rows");
  const std::size_t use = gathers_.size();
  if (use == gathered_.size()) gathered_.push_back(std::make_unique<PinnedRoom>());
  auto* values = gathered_[use]->need<float>(context_, of.size());
  gathers_.push_back({&raw, which, values});
  if (of.empty() || !values || !to || !computes()) return false;
  read_rows(pool_, raw, which, rows_, embeddings_, values, context_->error);
  return keep(context_->copy_to_device(to, values, of.size() * sizeof(float)));
}

void CudaDevice::embed_tokens(const Weight& table, FloatSpan out) { gather(table, TableRow::kToken, out, at(out)); }

void CudaDevice::look_up_tokens(const Weight& table, FloatSpan out) {
  gather(table, TableRow::kTokenAlone, out, at(out));
}

void CudaDevice::add_rows_of(const Weight& table, TableRow which, FloatSpan out) {
  auto* rows = added_rows_.need<float>(context_, out.size());
  if (gather(table, which, out, rows))
    cuda::add_values(stream(), rows, 1, static_cast<std::int64_t>(out.size()), at(out));
}

void CudaDevice::add_positions(const Weight& table, FloatSpan out) { add_rows_of(table, TableRow::kPosition, out); }
void CudaDevice::add_types(const Weight& table, FloatSpan out) { add_rows_of(table, TableRow::kType, out); }

}  // namespace llorch
