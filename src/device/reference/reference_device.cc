#include "device/reference/reference_device.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/half.h"
#include "base/limits.h"
#include "device/host_device.h"

namespace llorch {
namespace {

double square(double x) { return x * x; }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

double gelu_erf(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

double activated(const Activation& a, double gate, double up) {
  switch (a.kind) {
    case Activation::Kind::kSiluMul: return gate * sigmoid(gate) * up;
    case Activation::Kind::kGelu: return gelu(gate);
    case Activation::Kind::kGeluMul: return gelu(gate) * up;
    case Activation::Kind::kGeluErf: return gelu_erf(gate);
    case Activation::Kind::kGeluErfMul: return gelu_erf(gate) * up;
    case Activation::Kind::kReluSquared: return (gate > 0 ? gate : 0 * gate) * gate;
    case Activation::Kind::kSwigluClamped: break;
  }
  if (!std::isfinite(gate) || !std::isfinite(up)) return NAN;  // the clamps would hide it
  const double c = std::min<double>(gate, a.limit), u = std::clamp<double>(up, -a.limit, a.limit);
  return c * sigmoid(static_cast<double>(a.alpha) * c) * (u + 1);
}

/// Positions of a head lie together, page by page.
class ReferenceCache final : public HostCache {
 public:
  ReferenceCache(CacheShape shape, SlotMemory<float> inputs, SlotMemory<double> states, std::vector<std::int64_t> first,
                 AlignedBuffer memory)
      : HostCache(std::move(shape), std::move(inputs)),
        states_(std::move(states)),
        first_(std::move(first)),
        memory_(std::move(memory)) {}
  /// Of each value head: its state (key_dim, value_dim) at the border, then of 64 positions what changes it: key,
  /// value, decay and strength.
  [[nodiscard]] static std::int64_t head_numbers(const SlotLayer& l) {
    return std::int64_t{l.key_dim} * l.value_dim + SlotLayer::kBlock * position_numbers(l);
  }
  [[nodiscard]] static std::int64_t position_numbers(const SlotLayer& l) { return l.key_dim + l.value_dim + 2; }
  [[nodiscard]] static Result<SlotMemory<double>> make_states(const CacheShape& shape) {
    return SlotMemory<double>::make(
        shape, [](const SlotLayer& l) { return l.value_heads * head_numbers(l); },
        [](const SlotLayer& l) { return std::int64_t{l.value_heads} * l.key_dim * l.value_dim; });
  }
  [[nodiscard]] const SlotMemory<double>& states() const { return states_; }
  /// head_dim floats of one position; which: 0 key, 1 value.
  [[nodiscard]] float* at(int layer, int head, const std::int32_t* pages, std::int64_t position, int which) const {
    const std::int64_t page = pages[position / limits::kKvPagePositions];
    const std::int64_t slot =
        (std::int64_t{head} * shape().pages[shape().group_of(layer)] + page) * limits::kKvPagePositions +
        position % limits::kKvPagePositions;
    const auto index = static_cast<std::size_t>(layer);
    return reinterpret_cast<float*>(memory_.data()) + first_[index] +
           (slot * 2 + which) * shape().layers[index].head_dim;
  }
  [[nodiscard]] std::size_t bytes() const override { return memory_.size() + inputs().bytes() + states_.bytes(); }

 private:
  void each_piece(int layer, std::int32_t page, const Visit& visit) const override {
    const CacheLayer& of = shape().layers[static_cast<std::size_t>(layer)];
    const auto floats = static_cast<std::size_t>(2 * limits::kKvPagePositions * of.head_dim);
    for (int head = 0; head < of.kv_heads; ++head)
      visit(std::as_writable_bytes(
          std::span(at(layer, head, &page, 0, 0), floats)));  // the positions of a page lie together
  }
  [[nodiscard]] std::span<std::byte> state_of(int layer, std::int32_t checkpoint) const override {
    return states_.checkpoint_bytes(layer, checkpoint);
  }

  SlotMemory<double> states_;
  std::vector<std::int64_t> first_;  // float of each layer
  AlignedBuffer memory_;
};

class ReferenceDevice final : public HostDevice {
 public:
  using HostDevice::HostDevice;
  std::string_view isa() const override { return "reference"; }
  Result<std::unique_ptr<Weight>> matrix(const TensorView& tensor, std::int64_t parts, const Read& read) override {
    if (!quant::find_row_ops(tensor.type)) return table(tensor, {});  // which says what is wrong
    AlignedBuffer bytes;
    if (read) {
      LLORCH_TRY(bytes, AlignedBuffer::make(tensor.data.size()));
      constexpr std::size_t kReadMost = 32 << 20;  // between two times that loading may be cancelled
      for (std::size_t i = 0; i < tensor.data.size(); i += kReadMost)
        LLORCH_OK(read(tensor.data.subspan(i, std::min(kReadMost, tensor.data.size() - i)), bytes.data() + i));
    }
    LLORCH_OK(quant::check_finite(
        tensor, read ? std::span<const std::byte>(bytes.data(), tensor.data.size()) : tensor.data, 0));
    return std::make_unique<RawWeight>(tensor, parts, Read{}, std::move(bytes));
  }
  Result<std::unique_ptr<Cache>> make_cache(const CacheShape& s) override {
    std::vector<std::int64_t> first;
    std::int64_t floats = 0;
    for (int i = 0; i < static_cast<int>(s.layers.size()); ++i) {
      const CacheLayer& layer = s.layers[static_cast<std::size_t>(i)];
      first.push_back(floats);
      floats += std::int64_t{2} * layer.kv_heads * s.pages[s.group_of(i)] * limits::kKvPagePositions * layer.head_dim;
    }
    LLORCH_TRY(AlignedBuffer memory, AlignedBuffer::make(static_cast<std::size_t>(floats) * sizeof(float)));
    LLORCH_TRY(auto inputs, HostCache::make_inputs(s));
    LLORCH_TRY(auto states, ReferenceCache::make_states(s));
    return std::make_unique<ReferenceCache>(s, std::move(inputs), std::move(states), std::move(first),
                                            std::move(memory));
  }

  void rope(FloatSpan x, int heads, const RopeTable& table) override {
    const auto& rope = static_cast<const Rope&>(table);
    const int half = rope.spec().rotated / 2;
    const bool adjacent = rope.spec().adjacent;
    const std::int64_t head_dim = x.width() / heads;
    for (std::int64_t r = 0; r < x.rows(); ++r)
      for (int h = 0; h < heads; ++h)
        for (int i = 0; i < half; ++i) {
          float* head = at(x) + r * x.width() + h * head_dim;
          float &first = head[adjacent ? 2 * i : i], &second = head[adjacent ? 2 * i + 1 : i + half];
          const auto place = static_cast<std::size_t>(r * half + i);
          const double c = rope.cos[place], s = rope.sin[place], a = first, b = second;
          first = static_cast<float>(a * c - b * s);
          second = static_cast<float>(a * s + b * c);
        }
  }
  void rms_norm(FloatSpan x, FloatSpan weight, float eps, FloatSpan out, const Guard* guard) override {
    const auto n = static_cast<std::size_t>(weight.width());
    for (std::size_t r = 0; r < x.size() / n; ++r) {
      const float* w = at(weight) + r % static_cast<std::size_t>(weight.rows()) * n;
      double squares = 0;
      for (std::size_t i = 0; i < n; ++i) squares += square(at(x)[r * n + i]);
      const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + static_cast<double>(eps));
      for (std::size_t i = 0; i < n; ++i) at(out)[r * n + i] = static_cast<float>(at(x)[r * n + i] * scale * w[i]);
    }
    if (guard) check(out, kMost, *guard);
  }
  void layer_norm(FloatSpan x, FloatSpan weight, FloatSpan bias, float eps, FloatSpan out,
                  const Guard* guard) override {
    const std::size_t n = weight.size();
    for (std::size_t r = 0; r < x.size() / n; ++r) {
      double mean = 0, variance = 0;
      for (std::size_t i = 0; i < n; ++i) mean += at(x)[r * n + i];
      mean /= static_cast<double>(n);
      for (std::size_t i = 0; i < n; ++i) variance += square(at(x)[r * n + i] - mean);
      const double scale = 1 / std::sqrt(variance / static_cast<double>(n) + static_cast<double>(eps));
      for (std::size_t i = 0; i < n; ++i)
        at(out)[r * n + i] = static_cast<float>((at(x)[r * n + i] - mean) * scale * at(weight)[i] + at(bias)[i]);
    }
    if (guard) check(out, kMost, *guard);
  }
  void check(FloatSpan x, float limit, const Guard& guard) override {
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      const std::span<float> row(at(x) + r * x.width(), static_cast<std::size_t>(x.width()));
      if (!std::ranges::all_of(row, [&](float v) { return std::fabs(v) <= limit; }))
        spoil(guard, r, row.data(), x.width());
    }
  }
  void linear(std::span<const LinearPart> parts, FloatSpan x) override {
    for (const LinearPart& part : parts) {
      const auto& w = static_cast<const RawWeight&>(*part.weight);
      pool().run(w.rows(), [&](std::int64_t n) {
        const double bias = part.bias.empty() ? 0 : at(part.bias)[n];
        for (std::int64_t r = 0; r < x.rows(); ++r)
          at(part.out)[r * w.rows() + n] = static_cast<float>(w.dot(n, at(x) + r * w.columns()) + bias);
      });
    }
  }
  void add_low_rank(std::span<const LowRankPart> parts, FloatSpan x, RowSet set, std::int64_t first) override {
    if (adapters() == 0) return;
    pool().run(x.rows(), [&](std::int64_t r) {
      for (const LowRankPart& part : parts)
        for (const LowRank& l : part.adapters)
          if (l.adapter == adapter_of(set, first + r))
            add_low_rank_row(l, at(x) + r * x.width(), at(part.out) + r * part.out.width());
    });
  }
  void linear_heads(const Weight& weight, FloatSpan x, FloatSpan out) override {
    const auto& w = static_cast<const RawWeight&>(weight);
    pool().run(x.rows(), [&](std::int64_t r) {
      const std::int64_t first = r % w.parts() * w.rows();
      for (std::int64_t n = 0; n < w.rows(); ++n)
        at(out)[r * w.rows() + n] = static_cast<float>(w.dot(first + n, at(x) + r * w.columns()));
    });
  }
  void activate(const Activation& kind, FloatSpan gate, FloatSpan up, FloatSpan out, const Guard& guard) override {
    for (std::size_t i = 0; i < gate.size(); ++i)
      at(out)[i] = static_cast<float>(activated(kind, at(gate)[i], kind.gated() ? at(up)[i] : 0));
    check(out, kMost, guard);
  }
  void add(FloatSpan x, float scale, FloatSpan out) override {
    for (std::size_t i = 0; i < x.size(); ++i)
      at(out)[i] = static_cast<float>(at(out)[i] + static_cast<double>(scale) * at(x)[i]);
  }
  void scale(FloatSpan x, float scale) override {
    for (std::size_t i = 0; i < x.size(); ++i) at(x)[i] *= scale;
  }
  void gate(FloatSpan gate, FloatSpan x) override {
    for (std::int64_t r = 0; r < x.rows(); ++r)
      for (std::int64_t i = 0; i < x.width(); ++i) {
        float& value = at(x)[r * x.width() + i];
        value = static_cast<float>(value * sigmoid(at(gate)[gate.width() == 1 ? r : r * x.width() + i]));
      }
  }
  void soft_cap(FloatSpan x, float cap) override {
    for (std::size_t i = 0; i < x.size(); ++i)
      at(x)[i] = static_cast<float>(static_cast<double>(cap) * std::tanh(at(x)[i] / static_cast<double>(cap)));
  }
  void multiply(FloatSpan x, FloatSpan out) override {
    for (std::size_t i = 0; i < x.size(); ++i) at(out)[i] *= at(x)[i];
  }
  void recur(const RecurrenceCall& call) override {
    const SlotLayer& layer = static_cast<const ReferenceCache&>(cache()).slot_layer(call.layer);
    const auto heads = static_cast<std::int64_t>(layer.value_heads);
    pool().run(static_cast<std::int64_t>(sequences().size()) * heads, [&](std::int64_t i) {
      recur(call, layer, sequences()[static_cast<std::size_t>(i / heads)], i % heads);
    });
  }
  void moe(const MoeCall& call) override {
    pool().run(call.x.rows(), [&](std::int64_t r) { mix(call, r); });
  }

  void write_cache(int layer, FloatSpan key, FloatSpan value) override {
    const auto& kv = static_cast<const ReferenceCache&>(cache());
    const CacheLayer& of = kv.shape().layers[static_cast<std::size_t>(layer)];
    // An F16 cache holds what is nearest, here too: what fast devices are compared with. (q8_0 stays exact.)
    const bool halves = kv.shape().precision == KvPrecision::kF16;
    const auto held = [&](float x) {
      return halves ? half_to_float(float_to_half(std::clamp(x, -65504.0f, 65504.0f))) : x;
    };
    const std::size_t group = kv.shape().group_of(layer);
    for (std::size_t r = 0; r < rows().size(); ++r)
      for (int h = 0; h < of.kv_heads; ++h)
        for (int d = 0; d < of.head_dim; ++d) {
          const std::int64_t from = static_cast<std::int64_t>(r) * key.width() + h * of.head_dim + d;
          kv.at(layer, h, pages(r, group), rows()[r].position, 0)[d] = held(at(key)[from]);
          kv.at(layer, h, pages(r, group), rows()[r].position, 1)[d] = held(at(value)[from]);
        }
  }
  void attend(const AttentionCall& call) override {
    pool().run(static_cast<std::int64_t>(rows().size()), [&](std::int64_t r) {
      for (int h = 0; h < call.heads; ++h) attend(call, static_cast<std::size_t>(r), h);
    });
  }

  void convolve_row(const ConvolutionCall& call, const float* const* x, float* out) const override {
    const std::int64_t taps = call.weight.rows();
    for (std::int64_t c = 0; c < call.weight.width(); ++c) {
      double sum = call.bias.empty() ? 0 : at(call.bias)[c];
      for (std::int64_t t = 0; t < taps; ++t)
        sum += static_cast<double>(at(call.weight)[t * call.weight.width() + c]) * x[t][c];
      out[c] = static_cast<float>(call.silu ? sum * sigmoid(sum) : sum);
    }
  }

 private:
  static constexpr float kMost = std::numeric_limits<float>::max();

  void add_low_rank_row(const LowRank& l, const float* x, float* out) const {
    std::vector<double> inner(static_cast<std::size_t>(l.a.rows()));
    for (std::size_t j = 0; j < inner.size(); ++j)
      for (std::int64_t i = 0; i < l.a.width(); ++i)
        inner[j] += static_cast<double>(at(l.a)[static_cast<std::int64_t>(j) * l.a.width() + i]) * x[i];
    for (std::int64_t n = 0; n < l.b.width(); ++n) {
      double sum = 0;
      for (std::size_t j = 0; j < inner.size(); ++j)
        sum += inner[j] * at(l.b)[static_cast<std::int64_t>(j) * l.b.width() + n];
      out[n] = static_cast<float>(out[n] + static_cast<double>(l.scale) * sum);
    }
  }

  /// One position's change of a head's state: key, value, decay, strength, as ReferenceCache keeps them.
  static void advance(const SlotLayer& l, bool corrects, const double* position, double* state) {
    const double *key = position, *value = position + l.key_dim, decay = value[l.value_dim],
                 strength = value[l.value_dim + 1];
    for (int i = 0; i < l.key_dim * l.value_dim; ++i) state[i] *= decay;
    for (int v = 0; v < l.value_dim; ++v) {
      double found = 0;
      for (int i = 0; i < l.key_dim && corrects; ++i) found += state[i * l.value_dim + v] * key[i];
      const double added = strength * (value[v] - found);
      for (int i = 0; i < l.key_dim; ++i) state[i * l.value_dim + v] += key[i] * added;
    }
  }

  void recur(const RecurrenceCall& c, const SlotLayer& l, const Sequence& s, std::int64_t head) {
    const auto& kept = static_cast<const ReferenceCache&>(cache());
    const std::int64_t size = std::int64_t{l.key_dim} * l.value_dim, of_position = ReferenceCache::position_numbers(l);
    double* border_state = kept.states().slot(c.layer, s.slot) + head * ReferenceCache::head_numbers(l);
    double* positions = border_state + size;
    const auto at_position = [&](std::int64_t p) { return positions + p % SlotLayer::kBlock * of_position; };
    const std::int64_t first = rows()[s.first].position;
    std::int64_t border = s.border;
    if (first == 0) std::fill_n(border_state, size, 0.0), border = 0;
    if (s.restore >= 0)
      std::copy_n(kept.states().checkpoint(c.layer, s.restore) + head * size, size, border_state), border = first;
    std::vector<double> state(border_state, border_state + size);
    const auto reach = [&](std::int64_t position) {  // a border, whose state is `state`
      std::ranges::copy(state, border_state);
      for (const StepPlan::Save& save : saves(s))
        if (save.position == position)
          std::ranges::copy(state, kept.states().checkpoint(c.layer, save.checkpoint) + head * size);
    };
    for (std::int64_t p = border; p < first; ++p) advance(l, c.corrects, at_position(p), state.data());
    if (first % SlotLayer::kBlock == 0 && border < first) reach(first);
    for (std::size_t r = s.first; r < s.end; ++r) {
      const std::int64_t p = rows()[r].position;
      double* position = at_position(p);
      std::vector<double> query = take_position(c, l, static_cast<std::int64_t>(r), head, position);
      advance(l, c.corrects, position, state.data());
      for (int v = 0; v < l.value_dim; ++v) {
        double sum = c.skip.empty() ? 0 : at(c.skip)[head] * position[l.key_dim + v];
        for (int i = 0; i < l.key_dim; ++i)
          sum += state[static_cast<std::size_t>(i * l.value_dim + v)] * query[static_cast<std::size_t>(i)];
        at(c.out)[(static_cast<std::int64_t>(r) * l.value_heads + head) * l.value_dim + v] = static_cast<float>(sum);
      }
      const bool draft = r + static_cast<std::size_t>(s.drafts) >= s.end;
      if ((p + 1) % SlotLayer::kBlock == 0 && !draft) reach(p + 1);
    }
  }

  /// What position `to` keeps of row r; returns its query.
  std::vector<double> take_position(const RecurrenceCall& c, const SlotLayer& l, std::int64_t r, std::int64_t head,
                                    double* to) const {
    const std::int64_t key_head = c.tiled ? head % l.key_heads : head / (l.value_heads / l.key_heads);
    const float* x = at(c.x) + r * c.x.width();
    const auto unit = [&](const float* from, double scale) {
      std::vector<double> values(from, from + l.key_dim);
      double squares = static_cast<double>(c.eps);
      for (const double v : values) squares += square(v);
      for (double& v : values) v = c.unit ? v * scale / std::sqrt(squares) : v;
      return values;
    };
    const auto column = [&](const HeadColumns& of) -> double {
      return at(of.x)[r * of.x.width() + of.first + head / of.group * of.step + head % of.group];
    };
    std::ranges::copy(unit(x + c.key + key_head * l.key_dim, 1), to);
    std::copy_n(x + c.value + head * l.value_dim, l.value_dim, to + l.key_dim);
    const double step = column(c.step) + at(c.step_bias)[head];
    const double plus = std::max(step, 0.0) + std::log1p(std::exp(-std::fabs(step)));
    to[l.key_dim + l.value_dim] = std::exp(at(c.rate)[head] * plus);
    to[l.key_dim + l.value_dim + 1] = c.strength.x.empty() ? plus : sigmoid(column(c.strength));
    return unit(x + c.query + key_head * l.key_dim, static_cast<double>(c.scale));
  }

  void attend(const AttentionCall& call, std::size_t r, int head) const {
    const auto& kv = static_cast<const ReferenceCache&>(cache());
    const CacheLayer& of = kv.shape().layers[static_cast<std::size_t>(call.layer)];
    const int dim = of.head_dim, kv_head = head / (call.heads / of.kv_heads);
    const std::int32_t* my_pages = pages(r, kv.shape().group_of(call.layer));
    const std::int64_t from = static_cast<std::int64_t>(r) * call.query.width() + std::int64_t{head} * dim;
    const float* query = at(call.query) + from;
    const std::int64_t mine = rows()[r].position, half = call.both_ways ? call.window / 2 : 0;
    std::int64_t last = call.both_ways ? rows()[sequence_end(r) - 1].position : mine;
    if (half > 0) last = std::min(last, mine + half);
    const std::int64_t behind = call.both_ways ? half : call.window - 1;
    const std::int64_t oldest = call.window > 0 ? std::max<std::int64_t>(0, mine - behind) : 0;
    const double sink = call.sinks.empty() ? -HUGE_VAL : at(call.sinks)[head];
    std::vector<double> scores;
    double top = sink;
    for (std::int64_t p = oldest; p <= last; ++p) {
      double dot = 0;
      for (int d = 0; d < dim; ++d)
        dot += static_cast<double>(query[d]) * kv.at(call.layer, kv_head, my_pages, p, 0)[d];
      dot *= call.scale;
      if (call.softcap > 0) dot = call.softcap * std::tanh(dot / call.softcap);
      top = std::max(top, dot);
      scores.push_back(dot);
    }
    double mass = call.sinks.empty() ? 0 : std::exp(sink - top);
    for (double& s : scores) mass += s = std::exp(s - top);
    for (int d = 0; d < dim; ++d) {
      double sum = 0;
      for (std::int64_t p = oldest; p <= last; ++p)
        sum += scores[static_cast<std::size_t>(p - oldest)] * kv.at(call.layer, kv_head, my_pages, p, 1)[d];
      at(call.out)[from + d] = static_cast<float>(sum / mass);
    }
  }

  /// One row's experts, chosen from the best groups, most likely first; of equals the lower index.
  static std::vector<std::pair<int, double>> choose(const Routing& routing, std::span<const float> logits,
                                                    const float* bias) {
    const bool sigmoids = routing.score == Routing::Score::kSigmoid;
    std::vector<double> score, by;
    for (const float logit : logits) score.push_back(sigmoids ? sigmoid(logit) : logit);
    const double top = *std::ranges::max_element(score);
    double all = 0, sum = 0;
    for (const double s : score) all += std::exp(s - top);
    const bool of_all = routing.score == Routing::Score::kSoftmaxOfAll;  // a bias is added to probabilities
    for (std::size_t e = 0; e < score.size(); ++e)
      by.push_back(!bias ? score[e] : (of_all ? std::exp(score[e] - top) / all : score[e]) + bias[e]);
    const auto best_of = [](const std::vector<double>& values, int count) {
      std::vector<int> order(values.size());
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, [&](int a, int b) {
        return values[static_cast<std::size_t>(a)] > values[static_cast<std::size_t>(b)];
      });
      order.resize(static_cast<std::size_t>(count));
      return order;
    };
    const auto groups = static_cast<std::size_t>(routing.groups), size = logits.size() / groups;
    if (groups > 1) {
      std::vector<double> worth;
      for (std::size_t g = 0; g < groups; ++g) {
        const std::vector<double> members(by.begin() + static_cast<std::ptrdiff_t>(g * size),
                                          by.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
        worth.push_back(0);
        for (const int best : best_of(members, size > 1 ? 2 : 1))
          worth.back() += members[static_cast<std::size_t>(best)];
      }
      const std::vector<int> kept = best_of(worth, routing.groups_active);
      for (std::size_t e = 0; e < by.size(); ++e)
        if (std::ranges::find(kept, static_cast<int>(e / size)) == kept.end()) by[e] = -HUGE_VAL;
    }
    std::vector<std::pair<int, double>> chosen;
    for (const int e : best_of(by, routing.active)) {
      const double s = score[static_cast<std::size_t>(e)];
      chosen.emplace_back(e, sigmoids ? s : std::exp(s - top));
      sum += chosen.back().second;
    }
    const bool of_chosen = routing.normalize || routing.score == Routing::Score::kSoftmaxOfChosen;
    for (auto& [e, weight] : chosen)
      weight = weight /
               (of_chosen  ? sum + (sigmoids ? static_cast<double>(routing.normalize_eps) : 0)
                : sigmoids ? 1
                           : all) *
               static_cast<double>(routing.scale);
    return chosen;
  }

  void mix(const MoeCall& c, std::int64_t r) {
    const auto part = [&](const Weight* w, FloatSpan bias, int expert, std::int64_t row, const float* x) {
      const std::int64_t index = expert * w->rows() + row;
      return static_cast<float>(static_cast<const RawWeight*>(w)->dot(index, x) + (bias.empty() ? 0 : at(bias)[index]));
    };
    const std::int64_t dim = c.x.width(), width = c.up->rows();
    std::vector<float> inside(static_cast<std::size_t>(width));
    std::vector<double> sum(static_cast<std::size_t>(dim));
    std::vector<float> x(static_cast<std::size_t>(dim));
    const std::span<const float> logits(at(c.logits) + r * c.logits.width(),
                                        static_cast<std::size_t>(c.logits.width()));
    for (auto [expert, weight] : choose(c.routing, logits, at(c.choice_bias))) {
      if (!c.expert_scale.empty()) weight *= static_cast<double>(at(c.expert_scale)[expert]);
      bool finite = true;
      for (std::int64_t i = 0; i < dim; ++i)
        x[static_cast<std::size_t>(i)] =
            at(c.x)[r * dim + i] * (c.routing.of_input ? static_cast<float>(weight) : 1.0f);
      for (std::int64_t i = 0; i < width; ++i) {
        const float up = part(c.up, c.up_bias, expert, i, x.data());
        const float gate = c.activation.gated() ? part(c.gate, c.gate_bias, expert, i, x.data()) : up;
        inside[static_cast<std::size_t>(i)] = static_cast<float>(activated(c.activation, gate, up));
        finite &= std::isfinite(inside[static_cast<std::size_t>(i)]);
      }
      if (!finite) spoil(c.guard, r, inside.data(), width);
      for (std::int64_t i = 0; i < dim; ++i)
        sum[static_cast<std::size_t>(i)] +=
            (c.routing.of_input ? 1 : weight) * part(c.down, c.down_bias, expert, i, inside.data());
    }
    for (std::int64_t i = 0; i < dim; ++i)
      at(c.out)[r * dim + i] = static_cast<float>(sum[static_cast<std::size_t>(i)]);
  }
};

}  // namespace

std::unique_ptr<Device> make_reference_device(int threads) { return std::make_unique<ReferenceDevice>(threads); }

}  // namespace llorch
