// The CPU: kernels of the chosen instruction set over a crew of threads. Work is split by output elements, never inside
// a sum. Matrix products may come from a library instead (product_provider.h); weights then stay as the file has them.
#pragma once

#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

#include "device/cpu/panel_cache.h"
#include "device/cpu/provided_products.h"
#include "device/host_device.h"
#include "kernel/activations.h"
#include "kernel/kernels.h"

namespace llorch {

/// Panels of one matrix, or of one behind the other where there are parts. Where a library multiplies, a panel is
/// kOutputs rows as the file has them.
class PackedWeight final : public Weight {
 public:
  PackedWeight(std::int64_t rows, std::int64_t columns, std::int64_t parts, DType dtype,
               std::span<const std::byte> data, std::int64_t panel_size)
      : Weight(rows, columns, parts, static_cast<std::int64_t>(data.size())),
        type(dtype),
        panels(data),
        panel_bytes(panel_size) {}
  /// The first panel of a part.
  [[nodiscard]] const std::uint8_t* part(std::int64_t index) const {
    const std::int64_t of_part = static_cast<std::int64_t>(panels.size()) / panel_bytes / parts();  // memory has more
    return reinterpret_cast<const std::uint8_t*>(panels.data()) + index * of_part * panel_bytes;
  }
  DType type;
  std::span<const std::byte> panels;
  std::int64_t panel_bytes;
};

class CpuDevice final : public HostDevice {
 public:
  /// `products` may be null: the kernels' own.
  CpuDevice(const kernel::Kernels& kernels, int threads, PanelCacheOptions cache, const ProductProvider* products);

  std::string_view isa() const override { return isa_; }
  Result<std::unique_ptr<Weight>> matrix(const TensorView& tensor, std::int64_t parts, const Read& read) override;
  bool loaded() override;
  Status intact() override { return cache_ ? cache_->intact() : Status{}; }
  Result<std::unique_ptr<Cache>> make_cache(const CacheShape& shape) override;

  void rope(FloatSpan x, int heads, const RopeTable& table) override;
  void rms_norm(FloatSpan x, FloatSpan weight, float eps, FloatSpan out, const Guard* guard) override;
  void layer_norm(FloatSpan x, FloatSpan weight, FloatSpan bias, float eps, FloatSpan out, const Guard* guard) override;
  void check(FloatSpan x, float limit, const Guard& guard) override;
  void linear(std::span<const LinearPart> parts, FloatSpan x) override;
  void add_low_rank(std::span<const LowRankPart> parts, FloatSpan x, RowSet rows, std::int64_t first) override;
  void linear_heads(const Weight& weight, FloatSpan x, FloatSpan out) override;
  void activate(const Activation& kind, FloatSpan gate, FloatSpan up, FloatSpan out, const Guard& guard) override;
  void add(FloatSpan x, float scale, FloatSpan out) override;
  void scale(FloatSpan x, float scale) override;
  void gate(FloatSpan gate, FloatSpan x) override;
  void soft_cap(FloatSpan x, float cap) override;
  void multiply(FloatSpan x, FloatSpan out) override;
  void recur(const RecurrenceCall& call) override;
  void moe(const MoeCall& call) override;
  void write_cache(int layer, FloatSpan key, FloatSpan value) override;
  void attend(const AttentionCall& call) override;

 private:
  void convolve_row(const ConvolutionCall& call, const float* const* x, float* out) const override;
  /// Of one sequence: its rows in one block of 64 positions.
  struct BlockRows {
    const Sequence* sequence;
    std::int64_t row;    // the first, of the step
    std::int64_t block;  // the position of the block's begin
    int first, last;     // positions in the block: first..last-1
    bool complete;       // the state goes on to the next border with them
  };
  void find_rates(const RecurrenceCall& call);
  void begin_states(const RecurrenceCall& call);
  void save_state(const RecurrenceCall& call, const Sequence& sequence, std::int64_t head, std::int64_t border) const;
  void keep_keys(const RecurrenceCall& call, const BlockRows& rows, std::int64_t key_head) const;
  void recur_block(const RecurrenceCall& call, const BlockRows& rows, std::int64_t head) const;
  /// Panels first_panel..last_panel-1 of one part of a weight, for rows that were converted.
  struct Product {
    const PackedWeight* weight;
    std::int64_t part, first_panel, last_panel;
    const float* x;  // the rows themselves, x_stride apart
    std::int64_t x_stride;
    std::int64_t first, count;  // converted rows
    const float* bias;          // by output, or null
    float* out;                 // out_stride apart
    std::int64_t out_stride;
  };
  /// Rows of x by expert: those of expert e are entries first[e] .. first[e + 1] - 1 of `row`.
  struct Assigned {
    std::vector<std::int32_t> chosen;  // (rows, active), best first
    std::vector<float> weight;         // the same
    std::vector<std::int64_t> place;   // the same: the entry of `row`
    std::vector<std::int64_t> first;
    std::vector<std::int32_t> row;
    std::vector<float> input_scale;  // of each entry of `row`, where routing weighs inputs
  };
  struct ExpertRows {
    std::int64_t expert, first, count;  // entries of Assigned::row
    std::int64_t place;                 // of the first among converted rows
  };
  [[nodiscard]] std::optional<std::span<const std::byte>> cached(const TensorView& tensor, std::size_t bytes);
  /// Calls body(value index) for some values at a time.
  template<class Body>
  void for_values(std::size_t count, std::size_t at_once, const Body& body) {
    pool().run(static_cast<std::int64_t>((count + at_once - 1) / at_once), [&](std::int64_t piece) {
      const std::size_t first = static_cast<std::size_t>(piece) * at_once;
      body(first, static_cast<std::int64_t>(std::min(at_once, count - first)));
    });
  }
  /// True: body was true for all rows.
  template<class Body>
  bool for_rows(std::int64_t rows, const Body& body) {
    std::atomic<bool> all{true};
    pool().run(rows, [&](std::int64_t r) {
      if (!body(r)) all.store(false, std::memory_order_relaxed);
    });
    return all;
  }
  [[nodiscard]] bool compute(const Activation& kind, const float* gate, const float* up, std::int64_t n,
                             float* out) const;
  void pack_panel(DType type, std::int64_t columns, const std::byte* source, std::int64_t rows, std::byte* out) const;
  [[nodiscard]] std::int64_t panels_of(const PackedWeight& w) const { return (w.rows() + panel_ - 1) / panel_; }
  // Rows of a product, in the form that weights of a type want.
  [[nodiscard]] bool same_form(DType a, DType b) const { return provided_ || kernel::Activations::same_form(k_, a, b); }
  [[nodiscard]] bool converts() const { return provided_ || activations_.converts(); }
  void make_room(DType type, std::int64_t rows, std::int64_t columns);
  /// Rows first..last-1, of which first is a multiple of kTileRows; row(index) is where one lies. One thread's work.
  template<class Row>
  void convert_tile(std::int64_t first, std::int64_t last, const Row& row);
  /// `next`: what its thread is likely to read afterwards, or null.
  void compute_product(const Product& product, const std::uint8_t* next) const;
  void cut_products();
  [[nodiscard]] const std::uint8_t* panels_at(const Product& p) const {
    return p.weight->part(p.part) + p.first_panel * p.weight->panel_bytes;
  }
  void assign(const MoeCall& call);
  void compute_experts(const MoeCall& call, std::span<const ExpertRows> experts);
  /// Converts rows of experts for weights of `type`; row(entry) is where one lies.
  template<class Row>
  void convert_rows(std::span<const ExpertRows> experts, DType type, std::int64_t columns, const Row& row);
  /// One product for each expert. x and out: of the first of these experts' entries.
  void add_products(std::span<const ExpertRows> experts, const Weight* weight, FloatSpan bias, const float* x,
                    float* out);
  /// Computes products_ and clears them. `then`: a mixture that comes next, whose experts are read then, or null.
  void run_products(const Weight* then = nullptr, std::span<const ExpertRows> experts = {});
  void group_by_adapter(RowSet set, std::int64_t first, std::int64_t rows);
  /// One adapter's addition to one product, as pieces of both kernels; `inner`: its first value of low_rank_inner_.
  void add_low_rank_pieces(const LowRank& l, const float* x, float* out, std::size_t inner);

  const kernel::Kernels& k_;
  std::string isa_;
  std::int64_t panel_;  // rows of a weight
  std::optional<ProvidedProducts> provided_;
  Arena weights_;
  kernel::Activations activations_;
  // Kept from step to step.
  std::vector<BlockRows> block_rows_;
  std::vector<float> rates_, log_decays_, strengths_;
  std::vector<std::size_t> runs_;  // begins of rows that attend together
  Assigned assigned_;
  std::vector<ExpertRows> batch_;
  std::vector<Product> products_, pieces_;
  /// Rows by adapter: those of adapter i are entries adapter_first_[i] .. adapter_first_[i + 1] - 1 of adapter_rows_.
  std::vector<std::int64_t> adapter_rows_, adapter_first_;
  std::vector<float> low_rank_inner_;
  std::vector<kernel::LowRankArgs> reductions_, expansions_;
  std::optional<PanelCache> cache_;  // last: what it writes lies in weights_
};

/// "reference", the name of an instruction set, or empty for the best of this machine. `products`: those of a library,
/// which outlives the device, in place of the kernels'; "reference" has its own, and "canonical" can have no others.
/// Errors: kDeviceNotFound.
[[nodiscard]] Result<std::unique_ptr<Device>> make_cpu_device(std::string_view isa, int threads,
                                                              PanelCacheOptions cache = {},
                                                              const ProductProvider* products = nullptr);

}  // namespace llorch
