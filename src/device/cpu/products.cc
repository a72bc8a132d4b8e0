// Matrix products: one matrix or some over all rows, and mixtures, whose experts each have rows of their own.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "device/cpu/cpu_device.h"

namespace llorch {
namespace {

constexpr std::int64_t kPanelGroup = 8;  // panels that some kernels multiply together

/// The experts of one row, best first, and their weights.
class Choice {
 public:
  Choice(const Routing& routing, const float* logits, const float* bias, int experts)
      : routing_(routing), logits_(logits), experts_(experts), score_(static_cast<std::size_t>(experts)) {
    const bool of_all = bias && routing.score == Routing::Score::kSoftmaxOfAll;  // a bias is added to probabilities
    const double top = *std::max_element(logits, logits + experts);
    double sum = 0;
    for (int e = 0; e < experts && of_all; ++e) sum += std::exp(score(e) - top);
    for (int e = 0; e < experts; ++e)
      score_[index(e)] = (of_all ? std::exp(score(e) - top) / sum : score(e)) + (bias ? double{bias[e]} : 0.0);
  }

  void take(std::int32_t* chosen, float* weights) {
    if (routing_.groups > 1) keep_best_groups();
    std::vector<std::int32_t> order(score_.size());
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + routing_.active, order.end(),
                      [&](int a, int b) { return better(a, b); });
    std::copy_n(order.begin(), routing_.active, chosen);
    weigh(chosen, weights);
  }

 private:
  static std::size_t index(int e) { return static_cast<std::size_t>(e); }
  [[nodiscard]] double score(int e) const {
    const double v = logits_[e];
    return routing_.score == Routing::Score::kSigmoid ? 1 / (1 + std::exp(-v)) : v;
  }
  [[nodiscard]] bool better(int a, int b) const {
    return score_[index(a)] > score_[index(b)] || (score_[index(a)] == score_[index(b)] && a < b);
  }
  void keep_best_groups() {
    const std::ptrdiff_t size = experts_ / routing_.groups;
    std::vector<std::pair<double, int>> groups;
    for (int g = 0; g < routing_.groups; ++g) {
      std::vector<double> two(score_.begin() + g * size, score_.begin() + (g + 1) * size);
      std::partial_sort(two.begin(), two.begin() + std::min<std::ptrdiff_t>(2, size), two.end(), std::greater<>());
      groups.emplace_back(size > 1 ? two[0] + two[1] : two[0], g);
    }
    std::ranges::sort(groups, [](const auto& a, const auto& b) {
      return a.first > b.first || (a.first == b.first && a.second < b.second);
    });
    for (int g = routing_.groups_active; g < routing_.groups; ++g)
      std::fill_n(score_.begin() + groups[index(g)].second * size, size, -HUGE_VAL);
  }
  void weigh(const std::int32_t* chosen, float* weights) const {
    const auto active = static_cast<std::size_t>(routing_.active);
    const bool sigmoids = routing_.score == Routing::Score::kSigmoid;
    const double top = *std::max_element(logits_, logits_ + experts_);
    std::vector<double> w(active);
    double sum = 0;
    for (std::size_t i = 0; i < active; ++i)
      sum += w[i] = sigmoids ? score(chosen[i]) : std::exp(static_cast<double>(logits_[chosen[i]]) - top);
    if (routing_.normalize || routing_.score == Routing::Score::kSoftmaxOfChosen) {
      if (sigmoids) sum += static_cast<double>(routing_.normalize_eps);
    } else {
      sum = sigmoids ? 1 : 0;
      for (int e = 0; e < experts_ && !sigmoids; ++e) sum += std::exp(static_cast<double>(logits_[e]) - top);
    }
    for (std::size_t i = 0; i < active; ++i)
      weights[i] = static_cast<float>(w[i] / sum * static_cast<double>(routing_.scale));
  }

  const Routing& routing_;
  const float* logits_;
  int experts_;
  std::vector<double> score_;  // by which they are chosen
};

const PackedWeight& packed(const Weight* weight) { return static_cast<const PackedWeight&>(*weight); }

}  // namespace

/// Large pieces share more in the caches and begin anew less often; small ones at the end let the threads finish
/// together.
void CpuDevice::cut_products() {
  static constexpr std::int64_t kFewRows = 4;  // which cost as much as one: the weights must be read
  constexpr std::int64_t kLeastBytes = 32 << 10;
  const auto cost_of_panel = [](const Product& p) { return std::max(p.count, kFewRows) * p.weight->columns(); };
  std::int64_t left = 0;
  for (const Product& p : products_) left += (p.last_panel - p.first_panel) * cost_of_panel(p);
  const std::int64_t turns = std::int64_t{2} * pool().threads();
  pieces_.clear();
  for (Product& p : products_)
    for (const std::int64_t last = p.last_panel; p.first_panel < last; p.first_panel = p.last_panel) {
      const std::int64_t least = std::max<std::int64_t>(kLeastBytes / p.weight->panel_bytes, 1);
      std::int64_t size = std::max(left / (turns * cost_of_panel(p)), least);
      if (size > kPanelGroup) size = size / kPanelGroup * kPanelGroup;
      p.last_panel = std::min(p.first_panel + size, last);
      left -= (p.last_panel - p.first_panel) * cost_of_panel(p);
      pieces_.push_back(p);
    }
  products_.clear();
}

void CpuDevice::run_products(const Weight* then, std::span<const ExpertRows> experts) {
  cut_products();
  const auto pieces = static_cast<std::int64_t>(pieces_.size());
  const auto next_of = [&](std::int64_t i) -> const std::uint8_t* {
    i += pool().threads();
    if (i < pieces) return panels_at(pieces_[static_cast<std::size_t>(i)]);
    const auto e = static_cast<std::size_t>(i - pieces);
    return then && e < experts.size() ? packed(then).part(experts[e].expert) : nullptr;
  };
  pool().run(pieces, [&](std::int64_t i) { compute_product(pieces_[static_cast<std::size_t>(i)], next_of(i)); });
}

void CpuDevice::make_room(DType type, std::int64_t rows, std::int64_t columns) {
  if (provided_)
    provided_->resize(rows, columns);
  else
    activations_.resize(k_, type, rows, columns);
}

/// Rows of one tile share cache lines.
template<class Row>
void CpuDevice::convert_tile(std::int64_t first, std::int64_t last, const Row& row) {
  static_assert(kernel::kTileRows % ProductProvider::kRows == 0);
  if (!provided_) {
    for (std::int64_t r = first; r < last; ++r) activations_.convert_row(r, row(r));
    return;
  }
  std::int64_t r = first;
  for (; r < last; ++r) provided_->convert_row(r, row(r));
  for (; r % ProductProvider::kRows != 0; ++r) provided_->clear_row(r);
}

void CpuDevice::compute_product(const Product& p, const std::uint8_t* next) const {
  const PackedWeight& w = *p.weight;
  if (provided_) {
    provided_->compute({w.part(p.part), w.type, w.columns(), p.first_panel * panel_,
                        std::min(p.last_panel * panel_, w.rows()), p.first, p.count, p.bias, p.out, p.out_stride});
    return;
  }
  kernel::LinearArgs a{};
  a.panels = w.part(p.part), a.panel_bytes = w.panel_bytes;
  a.first_panel = p.first_panel, a.last_panel = p.last_panel;
  a.next = next;
  a.n = w.rows();
  activations_.fill(a, p.x, p.first, p.count);
  a.x_stride = p.x_stride;
  a.bias = p.bias;
  a.out = p.out, a.out_stride = p.out_stride;
  k_.linear[static_cast<int>(w.type)](a);
}

void CpuDevice::linear(std::span<const LinearPart> parts, FloatSpan x) {
  const std::int64_t columns = parts.front().weight->columns(), rows = x.rows();
  LLORCH_ASSERT(x.width() == columns, "linear input of another width");
  const DType type = packed(parts.front().weight).type;
  for (const LinearPart& part : parts) {
    const PackedWeight& w = packed(part.weight);
    LLORCH_ASSERT(w.columns() == columns && w.parts() == 1 && part.out.width() == w.rows() && part.out.rows() >= rows,
                  "linear shapes disagree");
    if (!same_form(w.type, type)) {  // parts of one product rarely differ in this
      products_.clear();
      for (const LinearPart& each : parts) linear({&each, 1}, x);
      return;
    }
    products_.push_back({&w, 0, 0, panels_of(w), at(x), columns, 0, rows, at(part.bias), at(part.out), w.rows()});
  }
  make_room(type, rows, columns);
  constexpr std::int64_t tile = kernel::kTileRows;
  if (converts())
    pool().run((rows + tile - 1) / tile, [&](std::int64_t t) {
      convert_tile(t * tile, std::min(rows, (t + 1) * tile), [&](std::int64_t r) { return at(x) + r * columns; });
    });
  run_products();
}

void CpuDevice::group_by_adapter(RowSet set, std::int64_t first, std::int64_t rows) {
  adapter_first_.assign(static_cast<std::size_t>(adapters()) + 1, 0);
  const auto place = [&](std::int64_t r) { return static_cast<std::size_t>(adapter_of(set, first + r) + 1); };
  // Those without an adapter are counted in front, and not kept.
  for (std::int64_t r = 0; r < rows; ++r)
    if (const std::size_t p = place(r); p > 0) ++adapter_first_[p];
  std::partial_sum(adapter_first_.begin(), adapter_first_.end(), adapter_first_.begin());
  adapter_rows_.resize(static_cast<std::size_t>(adapter_first_.back()));
  std::vector<std::int64_t> next(adapter_first_);
  for (std::int64_t r = 0; r < rows; ++r)
    if (const std::size_t p = place(r); p > 0) adapter_rows_[static_cast<std::size_t>(next[p - 1]++)] = r;
}

void CpuDevice::add_low_rank_pieces(const LowRank& l, const float* x, float* out, std::size_t inner) {
  constexpr std::int64_t kRows = 32, kOutputs = 4, kColumns = 512;  // of one piece; outputs: where rows are few
  const auto adapter = static_cast<std::size_t>(l.adapter);
  const std::int64_t rank = l.a.rows(), begin = adapter_first_[adapter], rows = adapter_first_[adapter + 1] - begin;
  for (std::int64_t r = 0; r < rows; r += kRows) {
    kernel::LowRankArgs args{};
    args.rank = rank, args.row = adapter_rows_.data() + begin + r, args.rows = std::min(kRows, rows - r);
    args.inner = low_rank_inner_.data() + static_cast<std::int64_t>(inner) + r * rank;
    args.weight = at(l.a), args.columns = l.a.width(), args.values = x;
    const std::int64_t outputs = rows < kRows ? kOutputs : rank;
    for (args.first = 0; args.first < rank; args.first = args.last) {
      args.last = std::min(rank, args.first + outputs);
      reductions_.push_back(args);
    }
    args.weight = at(l.b), args.columns = l.b.width(), args.out = out, args.scale = l.scale;
    for (args.first = 0; args.first < args.columns; args.first = args.last) {
      args.last = std::min(args.columns, args.first + kColumns);
      expansions_.push_back(args);
    }
  }
}

/// Rows of one adapter together, wherever they lie; a row's sums know nothing of the others.
void CpuDevice::add_low_rank(std::span<const LowRankPart> parts, FloatSpan x, RowSet set, std::int64_t first) {
  if (adapters() == 0) return;
  group_by_adapter(set, first, x.rows());
  if (adapter_rows_.empty()) return;
  const auto each = [&](const auto& body) {
    for (const LowRankPart& part : parts)
      for (const LowRank& l : part.adapters)
        if (l.adapter < adapters()) body(part, l);
  };
  const auto values = [&](const LowRank& l) {
    const auto adapter = static_cast<std::size_t>(l.adapter);
    return static_cast<std::size_t>((adapter_first_[adapter + 1] - adapter_first_[adapter]) * l.a.rows());
  };
  std::size_t size = 0;
  each([&](const LowRankPart&, const LowRank& l) { size += values(l); });
  low_rank_inner_.resize(std::max(low_rank_inner_.size(), size));
  reductions_.clear(), expansions_.clear();
  size = 0;
  each([&](const LowRankPart& part, const LowRank& l) {
    LLORCH_ASSERT(l.a.width() == x.width() && l.b.width() == part.out.width() && part.out.rows() >= x.rows(),
                  "shapes of an adapter disagree");
    add_low_rank_pieces(l, at(x), at(part.out), size);
    size += values(l);
  });
  pool().run(static_cast<std::int64_t>(reductions_.size()),
             [&](std::int64_t i) { k_.low_rank_reduce(reductions_[static_cast<std::size_t>(i)]); });
  pool().run(static_cast<std::int64_t>(expansions_.size()),
             [&](std::int64_t i) { k_.low_rank_expand(expansions_[static_cast<std::size_t>(i)]); });
}

/// A head's rows lie between the others': outputs go there by their stride, converted rows are put together.
void CpuDevice::linear_heads(const Weight& weight, FloatSpan x, FloatSpan out) {
  const PackedWeight& w = packed(&weight);
  const std::int64_t heads = w.parts(), rows = x.rows() / heads, tile = kernel::kTileRows;
  LLORCH_ASSERT(x.width() == w.columns() && out.width() == w.rows() && out.rows() == x.rows(),
                "shapes of heads disagree");
  const std::int64_t of_head = (rows + tile - 1) / tile * tile, tiles = of_head / tile;
  make_room(w.type, of_head * (heads - 1) + rows, w.columns());
  if (converts())
    pool().run(heads * tiles, [&](std::int64_t i) {
      const std::int64_t head = i / tiles, before = head * of_head, first = i % tiles * tile;
      convert_tile(before + first, before + std::min(rows, first + tile),
                   [&](std::int64_t r) { return at(x) + ((r - before) * heads + head) * w.columns(); });
    });
  pool().run(heads, [&](std::int64_t head) {
    compute_product({&w, head, 0, panels_of(w), at(x) + head * w.columns(), heads * w.columns(), head * of_head, rows,
                     nullptr, at(out) + head * w.rows(), heads * w.rows()},
                    nullptr);
  });
}

void CpuDevice::assign(const MoeCall& c) {
  const std::int64_t rows = c.x.rows();
  const auto active = static_cast<std::size_t>(c.routing.active), experts = static_cast<std::size_t>(c.logits.width());
  Assigned& a = assigned_;
  const std::size_t entries = static_cast<std::size_t>(rows) * active;
  a.chosen.resize(entries), a.weight.resize(entries), a.place.resize(entries), a.row.resize(entries);
  a.input_scale.resize(entries);
  pool().run(rows, [&](std::int64_t r) {
    const std::size_t first = static_cast<std::size_t>(r) * active;
    Choice(c.routing, at(c.logits) + r * c.logits.width(), at(c.choice_bias), static_cast<int>(experts))
        .take(a.chosen.data() + first, a.weight.data() + first);
    for (std::size_t i = first; i < first + active && !c.expert_scale.empty(); ++i)
      a.weight[i] *= at(c.expert_scale)[a.chosen[i]];
  });
  a.first.assign(experts + 1, 0);
  for (const std::int32_t e : a.chosen) ++a.first[static_cast<std::size_t>(e) + 1];
  std::partial_sum(a.first.begin(), a.first.end(), a.first.begin());
  std::vector<std::int64_t> next(a.first.begin(), a.first.end() - 1);
  for (std::size_t i = 0; i < entries; ++i) {
    const std::int64_t place = next[static_cast<std::size_t>(a.chosen[i])]++;
    a.place[i] = place;
    a.row[static_cast<std::size_t>(place)] = static_cast<std::int32_t>(i / active);
    if (c.routing.of_input) a.input_scale[static_cast<std::size_t>(place)] = std::exchange(a.weight[i], 1.0f);
  }
}

template<class Row>
void CpuDevice::convert_rows(std::span<const ExpertRows> experts, DType type, std::int64_t columns, const Row& row) {
  const std::int64_t tile = kernel::kTileRows;
  make_room(type, experts.back().place + experts.back().count, columns);
  if (!converts()) return;
  std::vector<std::pair<const ExpertRows*, std::int64_t>> tiles;
  for (const ExpertRows& e : experts)
    for (std::int64_t i = 0; i < e.count; i += tile) tiles.emplace_back(&e, i);
  pool().run(static_cast<std::int64_t>(tiles.size()), [&](std::int64_t t) {
    const auto& [e, first] = tiles[static_cast<std::size_t>(t)];
    convert_tile(e->place + first, e->place + std::min(e->count, first + tile),
                 [&, e = e](std::int64_t r) { return row(e->first + r - e->place); });
  });
}

void CpuDevice::add_products(std::span<const ExpertRows> experts, const Weight* weight, FloatSpan bias, const float* x,
                             float* out) {
  const PackedWeight& w = packed(weight);
  for (const ExpertRows& e : experts) {
    const std::int64_t first = e.first - experts.front().first;
    const float* const own_bias = bias.empty() ? nullptr : at(bias) + e.expert * w.rows();
    products_.push_back({&w, e.expert, 0, panels_of(w), x + first * w.columns(), w.columns(), e.place, e.count,
                         own_bias, out + first * w.rows(), w.rows()});
  }
}

/// Some experts over all their rows.
void CpuDevice::compute_experts(const MoeCall& c, std::span<const ExpertRows> experts) {
  const std::int64_t first = experts.front().first, count = experts.back().first + experts.back().count - first;
  const std::int64_t dim = c.x.width(), width = c.up->rows();
  const auto row_of = [&](std::int64_t entry) {
    return at(c.x) + assigned_.row[static_cast<std::size_t>(entry)] * dim;
  };
  LLORCH_ASSERT(count <= c.inside_gate.rows(), "no room for these experts' rows");
  if (c.routing.of_input)
    pool().run(count, [&](std::int64_t i) {
      const float scale = assigned_.input_scale[static_cast<std::size_t>(first + i)], *x = row_of(first + i);
      for (std::int64_t d = 0; d < dim; ++d) at(c.picked)[i * dim + d] = x[d] * scale;
    });
  const auto source = [&](std::int64_t entry) -> const float* {
    return c.routing.of_input ? at(c.picked) + (entry - first) * dim : row_of(entry);
  };
  const FloatSpan gate = c.inside_gate.as(count, width), up = c.inside_up.as(count, width);
  const auto project = [&](const Weight* weight, FloatSpan bias, FloatSpan out, bool convert) {
    if (convert) {
      convert_rows(experts, packed(weight).type, dim, source);
      if (!converts() && !c.routing.of_input)
        pool().run(count, [&](std::int64_t i) {
          std::memcpy(at(c.picked) + i * dim, source(first + i), static_cast<std::size_t>(dim) * sizeof(float));
        });
    }
    add_products(experts, weight, bias, at(c.picked), at(out));
  };
  const bool gated = c.activation.gated();
  const bool same = gated && same_form(packed(c.gate).type, packed(c.up).type);
  if (gated) project(c.gate, c.gate_bias, gate, true);
  if (gated && !same) run_products();
  project(c.up, c.up_bias, gated ? up : gate, !same);
  run_products(c.down, experts);
  std::atomic<bool> all{true};
  for_values(gate.size(), 4096, [&](std::size_t at_value, std::int64_t n) {
    if (!compute(c.activation, at(gate) + at_value, at(up) + at_value, n, at(gate) + at_value))
      all.store(false, std::memory_order_relaxed);
  });
  if (!all)
    for (std::int64_t i = 0; i < count; ++i)
      if (float* values = at(gate) + i * width; !k_.within(values, width, std::numeric_limits<float>::max()))
        spoil(c.guard, assigned_.row[static_cast<std::size_t>(first + i)], values, width);
  convert_rows(experts, packed(c.down).type, width,
               [&](std::int64_t entry) { return at(gate) + (entry - first) * width; });
  add_products(experts, c.down, c.down_bias, at(gate), at(c.results) + first * dim);
  run_products();
}

/// Experts one behind the other, as many together as there is room; each row then sums its experts in their order, so
/// that neighbours do not matter.
void CpuDevice::moe(const MoeCall& c) {
  assign(c);
  constexpr std::int64_t kTogether = 256;  // rows; more take more room and are not faster
  const std::int64_t experts = c.logits.width(), tile = kernel::kTileRows;
  const std::int64_t room = std::min(c.inside_gate.rows(), kTogether);
  LLORCH_ASSERT(c.inside_gate.rows() >= c.x.rows(), "no room for one expert's rows");
  std::int64_t count = 0, place = 0;
  const auto flush = [&] {
    if (!batch_.empty()) compute_experts(c, batch_);
    batch_.clear(), count = place = 0;
  };
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::int64_t first = assigned_.first[static_cast<std::size_t>(e)];
    const std::int64_t mine = assigned_.first[static_cast<std::size_t>(e) + 1] - first;
    if (mine == 0) continue;
    if (count + mine > room) flush();  // one expert alone may have more
    batch_.push_back({e, first, mine, place});
    count += mine, place += (mine + tile - 1) / tile * tile;
  }
  flush();
  const std::int64_t dim = c.x.width(), active = c.routing.active;
  pool().run(c.x.rows(), [&](std::int64_t r) {
    float* out = at(c.out) + r * dim;
    std::fill_n(out, dim, 0.0f);
    for (std::int64_t i = r * active; i < (r + 1) * active; ++i) {
      const auto entry = static_cast<std::size_t>(i);
      k_.add_scaled(at(c.results) + assigned_.place[entry] * dim, assigned_.weight[entry], dim, out);
    }
  });
}

}  // namespace llorch
