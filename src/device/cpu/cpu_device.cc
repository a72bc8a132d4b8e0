#include "device/cpu/cpu_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/limits.h"
#include "device/cpu/cpu_cache.h"
#include "device/reference/reference_device.h"
#include "kernel/pack.h"

namespace llorch {
namespace {

using kernel::Kernels;

kernel::KvType kv_type(KvPrecision p) {
  return p == KvPrecision::kF32   ? kernel::KvType::kF32
         : p == KvPrecision::kF16 ? kernel::KvType::kF16
                                  : kernel::KvType::kQ8_0;
}

constexpr std::int64_t kPackBytes = 256 << 10;  // of a file, at once: what a core's cache holds

/// False where a value is not finite.
bool relu_squared(const float* x, std::int64_t n, float* out) {
  float sum = 0;
  for (std::int64_t i = 0; i < n; ++i) out[i] = (x[i] > 0 ? x[i] : 0 * x[i]) * x[i];
  for (std::int64_t i = 0; i < n; ++i) sum += out[i] * 0;
  return sum == 0;
}

/// What a matrix is in the cache of packed weights.
PanelCache::Matrix cache_key(const TensorView& t) {
  return {std::string(t.name), static_cast<std::int64_t>(t.type), static_cast<std::int64_t>(t.rows()),
          static_cast<std::int64_t>(t.columns())};
}

}  // namespace

CpuDevice::CpuDevice(const Kernels& kernels, int threads, PanelCacheOptions cache, const ProductProvider* products)
    : HostDevice(threads), k_(kernels), isa_(kernels.name), panel_(kernels.panel) {
  if (products) {
    provided_.emplace(*products);
    isa_ += fmt::format("+{}", products->name());
    panel_ = ProductProvider::kOutputs;
  }
  if (!cache.folder.empty()) cache_.emplace(std::move(cache), isa_);
}

bool CpuDevice::loaded() {
  if (cache_) cache_->finish();
  return cache_ && cache_->complete();
}

std::optional<std::span<const std::byte>> CpuDevice::cached(const TensorView& t, std::size_t bytes) {
  return cache_ ? cache_->next(cache_key(t), bytes) : std::nullopt;
}

/// `out` is zeros; rows that are missing stay so.
void CpuDevice::pack_panel(DType type, std::int64_t columns, const std::byte* source, std::int64_t rows,
                           std::byte* out) const {
  if (provided_)
    std::memcpy(out, source, static_cast<std::size_t>(rows) * row_bytes(type, static_cast<std::uint64_t>(columns)));
  else
    kernel::pack_panel(k_, type, columns, source, static_cast<int>(rows), reinterpret_cast<std::uint8_t*>(out));
}

Result<std::unique_ptr<Weight>> CpuDevice::matrix(const TensorView& t, std::int64_t parts, const Read& read) {
  if (!kernel::can_pack(t.type))
    return bad_model("tensor '{}' has type {}, which is no weight type", t.name, info(t.type).name);
  const auto n = static_cast<std::int64_t>(t.rows()) / parts, k = static_cast<std::int64_t>(t.columns());
  const std::int64_t of_part = (n + panel_ - 1) / panel_, panels = of_part * parts;
  const auto stride = static_cast<std::int64_t>(row_bytes(t.type, t.columns()));
  const std::int64_t size = provided_ ? panel_ * stride : kernel::panel_bytes(k_, t.type, k);
  // Panels first..last-1 of one part, read and packed.
  const auto pack = [&](std::int64_t first, std::int64_t last, std::byte* out) -> Status {
    const std::int64_t before = first / of_part * n;  // rows of earlier parts
    const std::int64_t begin = before + first % of_part * panel_,
                       end = std::min(before + n, begin + (last - first) * panel_);
    std::span<const std::byte> bytes =
        t.data.subspan(static_cast<std::size_t>(begin * stride), static_cast<std::size_t>((end - begin) * stride));
    if (read) {
      thread_local std::vector<std::byte> copy;
      copy.resize(bytes.size());
      LLORCH_OK(read(bytes, copy.data()));
      bytes = copy;
    }
    LLORCH_OK(quant::check_finite(t, bytes, static_cast<std::uint64_t>(begin)));
    for (std::int64_t row = begin; row < end; row += panel_, out += size)
      pack_panel(t.type, k, bytes.data() + (row - begin) * stride, std::min(panel_, end - row), out);
    return {};
  };

  auto found = cached(t, static_cast<std::size_t>(panels * size));
  if (found) {  // the first and the last panel must be what the file says
    std::vector<std::byte> fresh(static_cast<std::size_t>(size));
    for (const std::int64_t p : {std::int64_t{0}, panels - 1}) {
      std::ranges::fill(fresh, std::byte{0});
      LLORCH_OK(pack(p, p + 1, fresh.data()));
      if (found && std::memcmp(fresh.data(), found->data() + p * size, fresh.size()) != 0) {
        cache_->distrust();
        found.reset();
      }
    }
  }
  if (!found) {
    LLORCH_TRY(const auto memory, weights_.take(static_cast<std::size_t>(panels * size)));
    const std::int64_t group = std::max<std::int64_t>(kPackBytes / (stride * panel_), 1);
    const std::int64_t groups = (of_part + group - 1) / group;
    FirstError error;
    pool().run(groups * parts, [&](std::int64_t i) {
      if (error.there()) return;
      const std::int64_t first = i / groups * of_part + i % groups * group;
      error.add(pack(first, std::min((i / groups + 1) * of_part, first + group), memory.data() + first * size));
    });
    LLORCH_OK(error.take());
    found = memory;
  }
  if (cache_) cache_->add(cache_key(t), *found);
  return std::make_unique<PackedWeight>(n, k, parts, t.type, *found, size);
}

Result<std::unique_ptr<Cache>> CpuDevice::make_cache(const CacheShape& shape) {
  std::vector<CpuCache::Layer> layers;
  std::int64_t bytes = 0;
  for (int i = 0; i < static_cast<int>(shape.layers.size()); ++i) {
    const CacheLayer& layer = shape.layers[static_cast<std::size_t>(i)];
    const int pages = shape.pages[shape.group_of(i)];
    const kernel::KvLayout layout = kernel::kv_layout(kv_type(shape.precision), layer.head_dim);
    layers.push_back({layout, bytes, pages});
    bytes += std::int64_t{layer.kv_heads} * pages * layout.page_bytes;
  }
  LLORCH_TRY(AlignedBuffer memory, AlignedBuffer::make(static_cast<std::size_t>(bytes)));
  LLORCH_TRY(auto inputs, HostCache::make_inputs(shape));
  LLORCH_TRY(auto states, CpuCache::make_states(shape));
  return std::make_unique<CpuCache>(shape, std::move(inputs), std::move(states), std::move(layers), std::move(memory));
}

void CpuDevice::rope(FloatSpan x, int heads, const RopeTable& table) {
  const auto& rope = static_cast<const Rope&>(table);
  const int rotated = rope.spec().rotated;
  const std::int64_t head_dim = x.width() / heads;
  pool().run(x.rows(), [&](std::int64_t r) {
    for (std::int64_t h = 0; h < heads; ++h)
      k_.rope(at(x) + r * x.width() + h * head_dim, rope.cos.data() + r * (rotated / 2),
              rope.sin.data() + r * (rotated / 2), rotated, rope.spec().adjacent);
  });
}

void CpuDevice::rms_norm(FloatSpan x, FloatSpan weight, float eps, FloatSpan out, const Guard* guard) {
  const std::int64_t n = weight.width();
  for_rows(static_cast<std::int64_t>(x.size()) / n, [&](std::int64_t r) {
    const bool finite = k_.rms_norm(at(x) + r * n, at(weight) + r % weight.rows() * n, n, eps, at(out) + r * n);
    if (!finite && guard) spoil(*guard, r, at(out) + r * n, n);
    return finite;
  });
}

void CpuDevice::layer_norm(FloatSpan x, FloatSpan weight, FloatSpan bias, float eps, FloatSpan out,
                           const Guard* guard) {
  const auto n = static_cast<std::int64_t>(weight.size());
  for_rows(static_cast<std::int64_t>(x.size()) / n, [&](std::int64_t r) {
    const bool finite = k_.layer_norm(at(x) + r * n, at(weight), at(bias), n, eps, at(out) + r * n);
    if (!finite && guard) spoil(*guard, r, at(out) + r * n, n);
    return finite;
  });
}

void CpuDevice::check(FloatSpan x, float limit, const Guard& guard) {
  const auto row = [&](std::int64_t r) {
    float* values = at(x) + r * x.width();
    if (!k_.within(values, x.width(), limit)) spoil(guard, r, values, x.width());
    return true;
  };
  constexpr std::size_t kFew = 1 << 16;  // values: less than waking the crew takes
  if (x.size() > kFew)
    for_rows(x.rows(), row);
  else
    for (std::int64_t r = 0; r < x.rows(); ++r) row(r);
}

bool CpuDevice::compute(const Activation& a, const float* gate, const float* up, std::int64_t n, float* out) const {
  switch (a.kind) {
    case Activation::Kind::kSiluMul: return k_.silu_mul(gate, up, n, out);
    case Activation::Kind::kGelu: return k_.gelu(gate, n, out);
    case Activation::Kind::kGeluMul: return k_.gelu_mul(gate, up, n, out);
    case Activation::Kind::kGeluErf: return k_.gelu_erf(gate, n, out);
    case Activation::Kind::kGeluErfMul: return k_.gelu_erf_mul(gate, up, n, out);
    case Activation::Kind::kReluSquared: return relu_squared(gate, n, out);
    case Activation::Kind::kSwigluClamped: return k_.swiglu_clamped(gate, up, n, a.limit, a.alpha, out);
  }
  return false;
}

void CpuDevice::activate(const Activation& a, FloatSpan gate, FloatSpan up, FloatSpan out, const Guard& guard) {
  std::atomic<bool> all{true};
  for_values(gate.size(), 1024, [&](std::size_t first, std::int64_t n) {
    if (!compute(a, at(gate) + first, at(up) + first, n, at(out) + first)) all.store(false, std::memory_order_relaxed);
  });
  if (!all) check(out, std::numeric_limits<float>::max(), guard);
}

void CpuDevice::add(FloatSpan x, float scale, FloatSpan out) {
  for_values(x.size(), 8192, [&](std::size_t first, std::int64_t n) {
    if (scale == 1)
      k_.add(at(x) + first, n, at(out) + first);
    else
      k_.add_scaled(at(x) + first, scale, n, at(out) + first);
  });
}

void CpuDevice::scale(FloatSpan x, float scale) {
  for_values(x.size(), 8192, [&](std::size_t first, std::int64_t n) {
    float* values = at(x) + first;
    for (std::int64_t i = 0; i < n; ++i) values[i] *= scale;
  });
}

void CpuDevice::gate(FloatSpan gate, FloatSpan x) {
  pool().run(x.rows(), [&](std::int64_t r) {
    k_.sigmoid_mul(at(gate) + r * gate.width(), gate.width() == 1, x.width(), at(x) + r * x.width());
  });
}

void CpuDevice::soft_cap(FloatSpan x, float cap) {
  for_values(x.size(), 8192, [&](std::size_t first, std::int64_t n) { k_.soft_cap(cap, n, at(x) + first); });
}

void CpuDevice::multiply(FloatSpan x, FloatSpan out) {
  for_values(x.size(), 8192,
             [&](std::size_t first, std::int64_t n) { k_.multiply(at(x) + first, n, at(out) + first); });
}

void CpuDevice::write_cache(int layer, FloatSpan key, FloatSpan value) {
  const auto& kv = static_cast<const CpuCache&>(cache());
  const CacheLayer& of = kv.shape().layers[static_cast<std::size_t>(layer)];
  const std::size_t group = kv.shape().group_of(layer);
  // Two positions of one page may share a cache line of transposed keys, but never a byte: splitting by head keeps
  // lines apart too.
  pool().run(of.kv_heads, [&](std::int64_t h) {
    for (std::size_t r = 0; r < rows().size(); ++r) {
      const std::int32_t position = rows()[r].position, page = pages(r, group)[position / limits::kKvPagePositions];
      const std::int64_t from = static_cast<std::int64_t>(r) * key.width() + h * of.head_dim;
      k_.kv_write(kv.layout(layer), kv.page(layer, static_cast<int>(h), page), position % limits::kKvPagePositions,
                  at(key) + from, at(value) + from);
    }
  });
}

/// Rows that follow each other in one sequence share the loads of its pages, and so do the heads of a group.
void CpuDevice::attend(const AttentionCall& call) {
  const auto& kv = static_cast<const CpuCache&>(cache());
  const CacheLayer& of = kv.shape().layers[static_cast<std::size_t>(call.layer)];
  const kernel::KvLayout& layout = kv.layout(call.layer);
  const int group = call.heads / of.kv_heads, dim = of.head_dim;
  const std::size_t page_group = kv.shape().group_of(call.layer);
  const int together = kernel::attend_queries(layout);
  const std::size_t rows_max = static_cast<std::size_t>(std::max(1, together / group));
  runs_.assign(1, 0);
  for (std::size_t r = 1; r < rows().size(); ++r)
    if (rows()[r].sequence != rows()[r - 1].sequence || r - runs_.back() >= rows_max) runs_.push_back(r);
  runs_.push_back(rows().size());
  const auto runs = static_cast<std::int64_t>(runs_.size()) - 1;
  // The last rows see the most: they go first, so that threads end together.
  pool().run(runs * of.kv_heads, [&](std::int64_t piece) {
    const auto run = static_cast<std::size_t>(runs - 1 - piece / of.kv_heads);
    const std::size_t first = runs_[run], last = runs_[run + 1];
    const auto kv_head = static_cast<int>(piece % of.kv_heads);
    const int half = call.both_ways ? call.window / 2 : 0;
    const auto sees = [&](std::size_t r) -> std::int64_t {
      if (!call.both_ways) return rows()[r].position;
      const std::int64_t end = rows()[sequence_end(r) - 1].position;
      return half > 0 ? std::min<std::int64_t>(end, rows()[r].position + half) : end;
    };
    const auto count = static_cast<std::size_t>(sees(last - 1) / limits::kKvPagePositions + 1);
    thread_local std::vector<const std::uint8_t*> addresses;
    addresses.resize(count);
    for (std::size_t p = 0; p < count; ++p) {
      const std::int32_t page = pages(first, page_group)[p];
      addresses[p] = page < 0 ? nullptr : kv.page(call.layer, kv_head, page);
    }
    kernel::AttendQuery queries[kernel::kAttendQueriesMax];
    kernel::AttendArgs args{queries,
                            0,
                            addresses.data(),
                            layout,
                            half > 0 ? 2 * half + 1 : call.window,
                            call.scale,
                            call.softcap,
                            !call.sinks.empty()};
    const auto flush = [&] {
      if (args.count > 0) k_.attend(args);
      args.count = 0;
    };
    for (std::size_t r = first; r < last; ++r)
      for (int g = 0; g < group; ++g) {
        const int head = kv_head * group + g;
        const std::int64_t from = static_cast<std::int64_t>(r) * call.query.width() + std::int64_t{head} * dim;
        if (args.count == together) flush();
        queries[args.count++] = {at(call.query) + from, at(call.out) + from, sees(r),
                                 args.has_sink ? at(call.sinks)[head] : 0.0f,
                                 half > 0 ? rows()[r].position + half - sees(r) : 0};
      }
    flush();
  });
}

Result<std::unique_ptr<Device>> make_cpu_device(std::string_view isa, int threads, PanelCacheOptions cache,
                                                const ProductProvider* products) {
  if (isa == "reference") return make_reference_device(threads);
  if (products && isa == "canonical")
    return fail(ErrorCode::kDeviceNotFound, "canonical bits are those of the kernels: the products of {} are others",
                products->name());
  if (products) LLORCH_OK(check_products(*products));
  const std::string name(isa);
  const Kernels* kernels = isa.empty() ? &kernel::best_kernels() : kernel::find_kernels(name.c_str());
  if (kernels) return std::make_unique<CpuDevice>(*kernels, threads, std::move(cache), products);
  int count = 0;
  const Kernels* const* all = kernel::all_kernels(count);
  std::string known = "reference";
  for (int i = 0; i < count; ++i) known += fmt::format(", {}", all[i]->name);
  return fail(ErrorCode::kDeviceNotFound, "ISA '{}' does not exist on this machine (there are: {})", name, known);
}

}  // namespace llorch
