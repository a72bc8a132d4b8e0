#include "device/cuda/cuda_cache.h"

#include "cuda/kernel/recurrence.h"

namespace llorch {

Result<std::unique_ptr<CudaCache>> CudaCache::make(std::shared_ptr<CudaContext> context, const CacheShape& shape) {
  std::unique_ptr<CudaCache> cache(new CudaCache(context, shape));
  constexpr std::size_t kAlign = 256;
  std::size_t bytes = 0;
  std::vector<std::size_t> offsets;
  const auto reserve = [&](std::int64_t size) {
    offsets.push_back(bytes);
    bytes += (static_cast<std::size_t>(size) + kAlign - 1) / kAlign * kAlign;
  };
  for (int i = 0; i < static_cast<int>(shape.layers.size()); ++i) {
    const std::size_t group = shape.group_of(i);
    const auto& layer = cache->layers_.emplace_back(
        cuda::KvLayer::make(shape.layers[static_cast<std::size_t>(i)], static_cast<int>(group), shape.precision));
    reserve(layer.page_bytes() * shape.pages[group]);
  }
  constexpr std::int64_t kFloat = sizeof(float);
  for (const SlotLayer& l : shape.slot_layers) {
    const std::int64_t inputs = std::int64_t{l.kept()} * l.channels, tail = std::int64_t{l.tail()} * l.channels;
    auto& slots = cache->slots_.emplace_back();
    slots.slot_floats = cuda::recur_floats(l), slots.checkpoint_floats = l.state_floats();
    reserve(inputs * shape.slots * kFloat), reserve(tail * shape.checkpoints * kFloat);
    reserve(slots.slot_floats * shape.slots * kFloat), reserve(slots.checkpoint_floats * shape.checkpoints * kFloat);
  }
  LLORCH_TRY(cache->memory_, CountedMemory::take(context, bytes));
  if (bytes == 0) return cache;
  std::size_t content = cache->content_bytes(kCheckpoints);
  for (int group = 0; group < static_cast<int>(shape.windows.size()); ++group)
    content = std::max(content, cache->content_bytes(group));
  LLORCH_TRY(cache->content_, PinnedBytes::take(context, content));
  LLORCH_OK(context->fill(cache->memory_.as<std::byte>(), 0, bytes));
  std::size_t next = 0;
  const auto place = [&] { return cache->memory_.as<unsigned char>() + offsets[next++]; };
  for (cuda::KvLayer& layer : cache->layers_) layer.data = place();
  for (Slots& s : cache->slots_)
    for (float** at : {&s.inputs, &s.input_checkpoints, &s.states, &s.state_checkpoints})
      *at = reinterpret_cast<float*>(place());
  return cache;
}

std::vector<CudaCache::Piece> CudaCache::pieces(int group, std::int32_t index) const {
  std::vector<Piece> out;
  if (group == kCheckpoints) {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const SlotLayer& l = shape().slot_layers[i];
      const std::int64_t inputs = std::int64_t{l.tail()} * l.channels, states = slots_[i].checkpoint_floats;
      out.push_back({slots_[i].input_checkpoints + index * inputs, static_cast<std::size_t>(inputs) * sizeof(float)});
      out.push_back({slots_[i].state_checkpoints + index * states, static_cast<std::size_t>(states) * sizeof(float)});
    }
    return out;
  }
  for (const cuda::KvLayer& l : layers_)
    if (l.group == group) out.push_back({l.data + index * l.page_bytes(), static_cast<std::size_t>(l.page_bytes())});
  return out;
}

std::size_t CudaCache::content_bytes(int group) const {
  std::size_t bytes = 0;
  for (const Piece& piece : pieces(group, 0)) bytes += piece.bytes;
  return bytes;
}

Status CudaCache::read_content(int group, std::int32_t index, std::span<std::byte> to) const {
  LLORCH_OK(cuda::select_device(context_->index));
  LLORCH_OK(context_->answers());
  auto* next = content_.as<std::byte>();
  for (const Piece& piece : pieces(group, index)) {
    LLORCH_OK(context_->copy_to_host(next, piece.at, piece.bytes));
    next += piece.bytes;
  }
  LLORCH_OK(context_->wait());
  std::copy_n(content_.as<std::byte>(), to.size(), to.data());
  return {};
}

Status CudaCache::write_content(int group, std::int32_t index, std::span<const std::byte> from) {
  LLORCH_OK(cuda::select_device(context_->index));
  LLORCH_OK(context_->answers());
  auto* next = content_.as<std::byte>();
  LLORCH_ASSERT(from.size() <= content_.bytes(), "more than a page's content");
  std::ranges::copy(from, next);
  for (const Piece& piece : pieces(group, index)) {
    LLORCH_OK(context_->copy_to_device(piece.at, next, piece.bytes));
    next += piece.bytes;
  }
  return context_->wait();
}

}  // namespace llorch
