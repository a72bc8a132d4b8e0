// The CPU backend: kernels of the chosen ISA over a crew of threads. Work is split by output elements, never inside a
// sum.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>

#include "base/limits.h"
#include "base/thread_pool.h"
#include "kernel/activations.h"
#include "kernel/kernels.h"
#include "kernel/pack.h"
#include "nn/host_backend.h"
#include "nn/reference_backend.h"
#include "quant/table.h"

namespace llorch {
namespace {

using kernel::Kernels;

kernel::KvType kv_type(KvPrecision p) {
  return p == KvPrecision::kF32   ? kernel::KvType::kF32
         : p == KvPrecision::kF16 ? kernel::KvType::kF16
                                  : kernel::KvType::kQ8_0;
}

class PackedWeight final : public Weight {
 public:
  PackedWeight(std::int64_t rows, std::int64_t columns, DType dtype, std::span<const std::byte> data,
               std::int64_t panel_size)
      : Weight(rows, columns, static_cast<std::int64_t>(data.size())),
        type(dtype),
        panels(data),
        panel_bytes(panel_size) {}
  DType type;
  std::span<const std::byte> panels;  // in the backend's arena
  std::int64_t panel_bytes;
};

class CpuKvStore final : public KvStore {
 public:
  CpuKvStore(const KvShape& shape, kernel::KvLayout page_layout, AlignedBuffer memory)
      : KvStore(shape), layout(page_layout), memory_(std::move(memory)) {}
  /// Page `page` of a layer and head. Pages of one layer and head lie together.
  [[nodiscard]] std::uint8_t* page(int layer, int head, std::int32_t page) const {
    const auto index = (static_cast<std::int64_t>(layer) * shape().kv_heads + head) * shape().pages + page;
    return reinterpret_cast<std::uint8_t*>(memory_.data()) + index * layout.page_bytes;
  }
  [[nodiscard]] std::size_t bytes() const override { return memory_.size(); }
  kernel::KvLayout layout;

 private:
  AlignedBuffer memory_;
};

constexpr std::int64_t kPanelGroup = 8;         // panels that some kernels multiply together
constexpr std::int64_t kReadBytes = 256 << 10;  // of a file, at once: what a core's cache holds

/// The first of the errors of some threads.
class FirstError {
 public:
  [[nodiscard]] bool there() const { return there_.load(std::memory_order_relaxed); }
  void add(Status status) {
    if (status) return;
    const std::lock_guard lock(mutex_);
    if (!there_.exchange(true)) status_ = std::move(status);
  }
  [[nodiscard]] Status take() { return std::move(status_); }

 private:
  std::mutex mutex_;
  std::atomic<bool> there_{false};
  Status status_;
};

class CpuBackend final : public HostBackend {
 public:
  CpuBackend(const Kernels& kernels, int threads, PanelCacheOptions cache) : k_(kernels), pool_(threads) {
    if (!cache.folder.empty()) cache_.emplace(std::move(cache), k_.name);
  }

  std::string_view isa() const override { return k_.name; }
  bool loaded() override {
    if (cache_) cache_->finish();
    return cache_ && cache_->complete();
  }

  Status intact() override { return cache_ ? cache_->intact() : Status{}; }

  Result<std::unique_ptr<Weight>> matrix(const TensorView& t, const Read& read) override {
    if (!kernel::can_pack(t.type))
      return bad_model("tensor '{}' has type {}, which is no weight type", t.name, info(t.type).name);
    const auto n = static_cast<std::int64_t>(t.rows()), k = static_cast<std::int64_t>(t.columns());
    const std::int64_t panels = (n + k_.panel - 1) / k_.panel, size = kernel::panel_bytes(k_, t.type, k);
    const std::int64_t stride = static_cast<std::int64_t>(row_bytes(t.type, t.columns()));
    // Panels first..last-1, read and packed.
    const auto pack = [&](std::int64_t first, std::int64_t last, std::byte* out) -> Status {
      const std::int64_t begin = first * k_.panel, end = std::min(n, last * k_.panel);
      std::span<const std::byte> bytes =
          t.data.subspan(static_cast<std::size_t>(begin * stride), static_cast<std::size_t>((end - begin) * stride));
      if (read) {
        thread_local std::vector<std::byte> copy;
        copy.resize(bytes.size());
        LLORCH_OK(read(bytes, copy.data()));
        bytes = copy;
      }
      LLORCH_OK(quant::check_finite(t, bytes, static_cast<std::uint64_t>(begin)));
      for (std::int64_t p = first; p < last; ++p)
        kernel::pack_panel(k_, t.type, k, bytes.data() + (p - first) * k_.panel * stride,
                           static_cast<int>(std::min<std::int64_t>(k_.panel, n - p * k_.panel)),
                           reinterpret_cast<std::uint8_t*>(out + (p - first) * size));
      return {};
    };
    LLORCH_TRY(std::span<const std::byte> data, cached(t, panels, size, pack));
    if (data.empty()) {
      LLORCH_TRY(const auto memory, weights_.take(static_cast<std::size_t>(panels * size)));
      const std::int64_t group = std::max<std::int64_t>(kReadBytes / (stride * k_.panel), 1);
      FirstError error;
      pool_.run((panels + group - 1) / group, [&](std::int64_t i) {
        if (!error.there())
          error.add(pack(i * group, std::min(panels, (i + 1) * group), memory.data() + i * group * size));
      });
      LLORCH_OK(error.take());
      data = memory;
    }
    if (cache_) cache_->add(cache_key(t), data);
    return std::make_unique<PackedWeight>(n, k, t.type, data, size);
  }

  Status embed(const Weight& table, std::span<const std::int32_t> ids, DeviceSpan out) override {
    constexpr std::size_t kIds = 16;  // of one piece
    FirstError error;
    pool_.run(static_cast<std::int64_t>((ids.size() + kIds - 1) / kIds), [&](std::int64_t piece) {
      const std::size_t first = static_cast<std::size_t>(piece) * kIds, count = std::min(kIds, ids.size() - first);
      const auto width = static_cast<std::size_t>(table.columns());
      error.add(HostBackend::embed(table, ids.subspan(first, count), out.part(first * width, count * width)));
    });
    return error.take();
  }
  bool rms_norm(DeviceSpan x, DeviceSpan weight, float eps, DeviceSpan out) override {
    return for_rows(x.size() / weight.size(), weight.size(), [&](std::size_t at_row) {
      return k_.rms_norm(at(x) + at_row, at(weight), static_cast<std::int64_t>(weight.size()), eps, at(out) + at_row);
    });
  }
  bool layer_norm(DeviceSpan x, DeviceSpan weight, DeviceSpan bias, float eps, DeviceSpan out) override {
    return for_rows(x.size() / weight.size(), weight.size(), [&](std::size_t at_row) {
      return k_.layer_norm(at(x) + at_row, at(weight), at(bias), static_cast<std::int64_t>(weight.size()), eps,
                           at(out) + at_row);
    });
  }
  bool check(DeviceSpan x, std::int64_t rows, float limit, std::span<std::uint8_t> bad) override {
    const std::size_t width = x.size() / static_cast<std::size_t>(rows);
    const auto row = [&](std::size_t r) {
      float* values = at(x) + r * width;
      if (k_.within(values, static_cast<std::int64_t>(width), limit)) return true;
      std::fill(values, values + width, 0.0f);
      bad[r] = 1;
      return false;
    };
    constexpr std::size_t kFew = 1 << 16;  // values: less than waking the crew takes
    if (x.size() > kFew) return for_rows(static_cast<std::size_t>(rows), 1, row);
    bool all = true;
    for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) all &= row(r);
    return all;
  }

  void linear(std::span<const LinearPart> parts, DeviceSpan x, std::int64_t rows) override;

  bool activate(Activation kind, DeviceSpan gate, DeviceSpan up, float limit, float alpha, DeviceSpan out) override {
    constexpr std::size_t kChunk = 1024;
    std::atomic<bool> all{true};
    const auto compute = [&](std::size_t first, std::int64_t n) {
      switch (kind) {
        case Activation::kSiluMul: return k_.silu_mul(at(gate) + first, at(up) + first, n, at(out) + first);
        case Activation::kGelu: return k_.gelu(at(gate) + first, n, at(out) + first);
        case Activation::kSwigluClamped:
          return k_.swiglu_clamped(at(gate) + first, at(up) + first, n, limit, alpha, at(out) + first);
      }
      return false;
    };
    pool_.run(static_cast<std::int64_t>((gate.size() + kChunk - 1) / kChunk), [&](std::int64_t piece) {
      const std::size_t first = static_cast<std::size_t>(piece) * kChunk;
      if (!compute(first, static_cast<std::int64_t>(std::min(kChunk, gate.size() - first))))
        all.store(false, std::memory_order_relaxed);
    });
    return all;
  }
  void add(DeviceSpan x, DeviceSpan out) override {
    constexpr std::size_t kChunk = 8192;
    pool_.run(static_cast<std::int64_t>((x.size() + kChunk - 1) / kChunk), [&](std::int64_t piece) {
      const std::size_t first = static_cast<std::size_t>(piece) * kChunk;
      k_.add(at(x) + first, static_cast<std::int64_t>(std::min(kChunk, x.size() - first)), at(out) + first);
    });
  }
  void add_scaled(DeviceSpan x, float scale, DeviceSpan out) override {
    k_.add_scaled(at(x), scale, static_cast<std::int64_t>(x.size()), at(out));
  }

  void rope(DeviceSpan x, std::int64_t rows, int heads, int head_dim, DeviceSpan cos, DeviceSpan sin, int rotated,
            bool adjacent) override {
    pool_.run(rows, [&](std::int64_t r) {
      for (int h = 0; h < heads; ++h)
        k_.rope(at(x) + (r * heads + h) * head_dim, at(cos) + r * (rotated / 2), at(sin) + r * (rotated / 2), rotated,
                adjacent);
    });
  }

  Result<std::unique_ptr<KvStore>> make_kv(const KvShape& shape) override {
    const kernel::KvLayout layout = kernel::kv_layout(kv_type(shape.precision), shape.head_dim);
    const auto pages = static_cast<std::size_t>(shape.layers) * static_cast<std::size_t>(shape.kv_heads) *
                       static_cast<std::size_t>(shape.pages);
    LLORCH_TRY(AlignedBuffer memory, AlignedBuffer::make(pages * static_cast<std::size_t>(layout.page_bytes)));
    return std::make_unique<CpuKvStore>(shape, layout, std::move(memory));
  }

  void kv_write(KvStore& store, int layer, std::span<const BatchRow> rows, DeviceSpan key, DeviceSpan value) override {
    auto& kv = static_cast<CpuKvStore&>(store);
    const int heads = store.shape().kv_heads, dim = store.shape().head_dim;
    // Two positions of one page may share a cache line of transposed keys, but never a byte: splitting by head keeps
    // lines apart too.
    pool_.run(heads, [&](std::int64_t h) {
      for (std::size_t r = 0; r < rows.size(); ++r) {
        const std::int32_t page = rows[r].pages[rows[r].position / limits::kKvPagePositions];
        const std::size_t from =
            (r * static_cast<std::size_t>(heads) + static_cast<std::size_t>(h)) * static_cast<std::size_t>(dim);
        k_.kv_write(kv.layout, kv.page(layer, static_cast<int>(h), page), rows[r].position % limits::kKvPagePositions,
                    at(key) + from, at(value) + from);
      }
    });
  }

  void attention(const AttentionCall& call, std::span<const BatchRow> rows) override;

 private:
  static PanelCache::Matrix cache_key(const TensorView& t) {
    return {std::string(t.name), static_cast<std::int64_t>(t.type), static_cast<std::int64_t>(t.rows()),
            static_cast<std::int64_t>(t.columns())};
  }
  /// A matrix's panels in the cache; empty where they are not, or where the first or last of them is another.
  template<class Pack>
  Result<std::span<const std::byte>> cached(const TensorView& t, std::int64_t panels, std::int64_t size,
                                            const Pack& pack) {
    const auto found = cache_ ? cache_->next(cache_key(t), static_cast<std::size_t>(panels * size)) : std::nullopt;
    if (!found) return std::span<const std::byte>{};
    std::vector<std::byte> fresh(static_cast<std::size_t>(size));
    for (const std::int64_t p : {std::int64_t{0}, panels - 1}) {
      std::ranges::fill(fresh, std::byte{0});
      LLORCH_OK(pack(p, p + 1, fresh.data()));
      if (std::memcmp(fresh.data(), found->data() + p * size, fresh.size()) != 0) {
        cache_->distrust();
        return std::span<const std::byte>{};
      }
    }
    return *found;
  }

  /// True: body was true for all rows.
  template<class Body>
  bool for_rows(std::size_t rows, std::size_t width, const Body& body) {
    std::atomic<bool> all{true};
    pool_.run(static_cast<std::int64_t>(rows), [&](std::int64_t r) {
      if (!body(static_cast<std::size_t>(r) * width)) all.store(false, std::memory_order_relaxed);
    });
    return all;
  }

  const Kernels& k_;
  ThreadPool pool_;
  Arena weights_;
  kernel::Activations activations_;
  std::optional<PanelCache> cache_;  // last: what it writes lies in weights_
};

void CpuBackend::linear(std::span<const LinearPart> parts, DeviceSpan x, std::int64_t rows) {
  const std::int64_t columns = parts.front().weight->columns();
  LLORCH_ASSERT(static_cast<std::int64_t>(x.size()) >= rows * columns, "linear input too small");
  struct Piece {
    const LinearPart* part;
    std::int64_t first, last;
  };
  std::vector<Piece> pieces;
  const DType type = static_cast<const PackedWeight&>(*parts.front().weight).type;
  for (const LinearPart& part : parts) {
    const auto& w = static_cast<const PackedWeight&>(*part.weight);
    LLORCH_ASSERT(w.columns() == columns && static_cast<std::int64_t>(part.out.size()) >= rows * w.rows(),
                  "linear shapes disagree");
    if (!kernel::Activations::same_form(k_, w.type, type)) {  // parts of one product rarely differ in this
      for (const LinearPart& each : parts) linear({&each, 1}, x, rows);
      return;
    }
    const std::int64_t panels = (w.rows() + k_.panel - 1) / k_.panel;
    const std::int64_t turns = std::int64_t{2} * pool_.threads();
    // Large pieces share more in the caches; small ones at the end let the threads finish together.
    for (std::int64_t p = 0, size; p < panels; p += size) {
      size = (panels - p + turns - 1) / turns;
      if (size > kPanelGroup) size = size / kPanelGroup * kPanelGroup;
      pieces.push_back({&part, p, std::min(p + size, panels)});
    }
  }
  activations_.resize(k_, type, rows, columns);
  if (activations_.converts())  // rows of one tile share cache lines: one thread's work
    pool_.run((rows + kernel::kTileRows - 1) / kernel::kTileRows, [&](std::int64_t tile) {
      const std::int64_t last = std::min(rows, (tile + 1) * kernel::kTileRows);
      for (std::int64_t r = tile * kernel::kTileRows; r < last; ++r) activations_.convert_row(r, at(x) + r * columns);
    });
  pool_.run(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
    const Piece& piece = pieces[static_cast<std::size_t>(i)];
    const auto& w = static_cast<const PackedWeight&>(*piece.part->weight);
    kernel::LinearArgs a{};
    a.panels = reinterpret_cast<const std::uint8_t*>(w.panels.data());
    a.panel_bytes = w.panel_bytes;
    a.first_panel = piece.first, a.last_panel = piece.last;
    a.n = w.rows();
    activations_.fill(a, at(x));
    a.bias = piece.part->bias.empty() ? nullptr : at(piece.part->bias);
    a.out = at(piece.part->out), a.out_stride = w.rows();
    k_.linear[static_cast<int>(w.type)](a);
  });
}

/// Rows that follow each other in one sequence share the loads of its pages, and so do the heads of a group.
void CpuBackend::attention(const AttentionCall& call, std::span<const BatchRow> rows) {
  const auto& kv = static_cast<const CpuKvStore&>(*call.store);
  const int kv_heads = kv.shape().kv_heads, group = call.heads / kv_heads, dim = kv.shape().head_dim;
  const int together = kernel::attend_queries(kv.layout);
  const std::size_t rows_max = static_cast<std::size_t>(std::max(1, together / group));
  struct Run {
    std::size_t first, last;
  };
  std::vector<Run> runs;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const bool follows = !runs.empty() && rows[r].pages == rows[r - 1].pages &&
                         rows[r].position == rows[r - 1].position + 1 && r - runs.back().first < rows_max;
    if (follows)
      runs.back().last = r + 1;
    else
      runs.push_back({r, r + 1});
  }
  // The last rows see the most: they go first, so that threads end together.
  pool_.run(static_cast<std::int64_t>(runs.size()) * kv_heads, [&](std::int64_t piece) {
    const Run& run = runs[runs.size() - 1 - static_cast<std::size_t>(piece / kv_heads)];
    const auto kv_head = static_cast<int>(piece % kv_heads);
    const std::int64_t pages = rows[run.last - 1].position / limits::kKvPagePositions + 1;
    std::vector<const std::uint8_t*> addresses(static_cast<std::size_t>(pages));
    for (std::int64_t p = 0; p < pages; ++p)
      addresses[static_cast<std::size_t>(p)] = kv.page(call.layer, kv_head, rows[run.first].pages[p]);
    kernel::AttendQuery queries[kernel::kAttendQueriesMax];
    kernel::AttendArgs args{queries,     0,          addresses.data(), kv.layout,
                            call.window, call.scale, call.softcap,     !call.sinks.empty()};
    const auto flush = [&] {
      if (args.count > 0) k_.attend(args);
      args.count = 0;
    };
    for (std::size_t r = run.first; r < run.last; ++r)
      for (int g = 0; g < group; ++g) {
        const int head = kv_head * group + g;
        const std::int64_t from = (static_cast<std::int64_t>(r) * call.heads + head) * dim;
        if (args.count == together) flush();
        queries[args.count++] = {at(call.query) + from, at(call.out) + from, rows[r].position,
                                 args.has_sink ? call.sinks[static_cast<std::size_t>(head)] : 0.0f};
      }
    flush();
  });
}

}  // namespace

Result<std::unique_ptr<Backend>> make_cpu_backend(std::string_view isa, int threads, PanelCacheOptions cache) {
  if (isa == "reference") return make_reference_backend(threads);
  const std::string name(isa);
  const Kernels* kernels = isa.empty() ? &kernel::best_kernels() : kernel::find_kernels(name.c_str());
  if (kernels) return std::make_unique<CpuBackend>(*kernels, threads, std::move(cache));
  int count = 0;
  const Kernels* const* all = kernel::all_kernels(count);
  std::string known = "reference";
  for (int i = 0; i < count; ++i) known += fmt::format(", {}", all[i]->name);
  return fail(ErrorCode::kDeviceNotFound, "ISA '{}' does not exist on this machine (there are: {})", name, known);
}

}  // namespace llorch
