// For model_test: random tensors and a graph of the parts to be proven, and the formulas of those parts in double.
// Norms: Zhang and Sennrich 2019; Ba et al. 2016. Grouped attention with its extras: Vaswani et al. 2017; Ainslie et
// al. 2023. Rotary embedding: Su et al. 2021. Gated feed-forwards: Shazeer 2020. Mixtures: Shazeer et al. 2017;
// DeepSeek-AI 2024 for groups and biased choice. Parallel blocks: Wang and Komatsuzaki 2021. The gated delta rule: Yang
// et al. 2024. Mamba 2: Dao and Gu 2024. Gated short convolutions: Liquid AI 2025.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "format/weight_source.h"
#include "model/graph.h"

namespace llorch {

using Row = std::vector<double>;
using Rows = std::vector<Row>;
inline constexpr int kDim = 48, kVocab = 40, kHeads = 4, kHeadDim = 16, kInside = 64, kExperts = 8, kTokens = 140;

/// Random tensors, by name; and the graph that uses them.
class Parts : public WeightSource {
 public:
  TensorId matrix(int rows, int columns, double size = 0) {
    return add(TensorUse::As::kMatrix, rows, columns, 0, size > 0 ? size : 1 / std::sqrt(columns));
  }
  TensorId table(int rows, int columns) { return add(TensorUse::As::kTable, rows, columns, 0, 1); }
  TensorId vector(int n, double centre, double size) { return add(TensorUse::As::kVector, 1, n, centre, size); }
  Linear linear(int in, int out, bool bias = false) {
    return {matrix(out, in), bias ? vector(out, 0, 0.3) : TensorId(), out};
  }
  Linear experts(int in, int out, bool bias = false) {
    Linear l{matrix(kExperts * out, in), {}, out};
    graph.tensors[static_cast<std::size_t>(l.weight.index)].parts = kExperts;
    if (bias) l.bias = add(TensorUse::As::kVector, kExperts, out, 0, 0.3);
    return l;
  }
  /// A query of all heads and a gate whose rows lie in turns, head by head, in one tensor.
  void query_with_gate(SoftmaxAttention& a) {
    const TensorId both = matrix(2 * kHeads * kHeadDim, kDim);
    a.query = runs(both, 0), a.gate = runs(both, kHeadDim);
  }
  TensorId constant(float value, int n) {
    TensorUse use{TensorUse::As::kConstant, "", 0, static_cast<std::uint64_t>(n)};
    use.value = value;
    graph.tensors.push_back(use);
    values_[key_of(graph.tensors.size() - 1)].assign(use.count, value);
    return {static_cast<int>(graph.tensors.size()) - 1};
  }
  Norm rms(int n = kDim) { return {vector(n, 1, 0.3), {}, 1e-5f}; }
  Norm layer(int n = kDim) { return {vector(n, 1, 0.3), vector(n, 0, 0.3), 1e-5f}; }

  SoftmaxAttention attention(int kv_heads = 2) {
    SoftmaxAttention a;
    a.heads = kHeads, a.kv_heads = kv_heads, a.head_dim = kHeadDim;
    a.scale = static_cast<float>(1 / std::sqrt(kHeadDim));
    a.query = linear(kDim, kHeads * kHeadDim), a.key = linear(kDim, kv_heads * kHeadDim);
    a.value = linear(kDim, kv_heads * kHeadDim), a.output = linear(kHeads * kHeadDim, kDim);
    return a;
  }
  LatentAttention latent(bool query_down) {
    LatentAttention a;
    a.heads = 3, a.plain = 12, a.turning = 8, a.latent_dim = 20, a.value_dim = 10, a.rope = 0, a.scale = 0.2f;
    if (query_down) a.query_down = linear(kDim, 18), a.query_norm = rms(18);
    a.query = linear(query_down ? 18 : kDim, a.heads * (a.plain + a.turning));
    a.latent = linear(kDim, a.latent_dim + a.turning), a.latent_norm = rms(a.latent_dim);
    a.key_up = {matrix(a.heads * a.latent_dim, a.plain), {}, a.latent_dim};
    a.value_up = {matrix(a.heads * a.value_dim, a.latent_dim), {}, a.value_dim};
    for (const Linear* l : {&a.key_up, &a.value_up})
      graph.tensors[static_cast<std::size_t>(l->weight.index)].parts = a.heads;
    a.output = linear(a.heads * a.value_dim, kDim);
    return a;
  }
  Convolution convolution(int channels, bool bias) {
    Convolution c{add(TensorUse::As::kTransposed, channels, 4, 0, 0.5), {}, 4};
    if (bias) c.bias = vector(channels, 0, 0.3);
    return c;
  }
  GatedDeltaNet delta_net(int value_heads, bool tiled, bool both) {
    GatedDeltaNet m;
    m.key_heads = 2, m.key_dim = 12, m.value_heads = value_heads, m.value_dim = 20, m.tiled = tiled;
    m.input = linear(kDim, m.channels()), m.gate = linear(kDim, m.inner());
    m.beta = linear(kDim, both ? 2 * value_heads : value_heads);
    if (!both) m.decay = linear(kDim, value_heads);
    m.convolution = convolution(m.channels(), false);
    m.decay_bias = vector(value_heads, 0, 1), m.decay_rate = vector(value_heads, -0.5, 0.2);
    m.norm = rms(m.value_dim), m.output = linear(m.inner(), kDim);
    return m;
  }
  ShortConvolution short_convolution() {
    ShortConvolution m;
    m.channels = 40;
    m.before = linear(kDim, 40), m.after = linear(kDim, 40), m.input = linear(kDim, 40);
    m.convolution = convolution(40, true), m.output = linear(40, kDim);
    return m;
  }
  Mamba2 mamba(int groups) {
    Mamba2 m;
    m.heads = 4, m.head_dim = 10, m.groups = groups, m.state_dim = 14;
    m.gate = linear(kDim, m.inner()), m.input = linear(kDim, m.channels()), m.step = linear(kDim, m.heads);
    m.convolution = convolution(m.channels(), true);
    m.step_bias = vector(m.heads, 0, 1), m.decay_rate = vector(m.heads, -0.5, 0.2), m.skip = vector(m.heads, 0.5, 0.5);
    m.norm = rms(m.inner()), m.output = linear(m.inner(), kDim);
    return m;
  }
  Mlp mlp(Activation::Kind kind = Activation::Kind::kSiluMul) {
    Mlp m;
    m.activation.kind = kind;
    if (m.activation.gated()) m.gate = linear(kDim, kInside);
    m.up = linear(kDim, kInside), m.down = linear(kInside, kDim);
    return m;
  }
  Moe moe(Routing routing) {
    Moe m;
    m.router = {matrix(kExperts, kDim), {}, kExperts};
    m.routing = routing;
    m.gate = experts(kDim, kInside), m.up = experts(kDim, kInside), m.down = experts(kInside, kDim);
    return m;
  }
  Block block() {
    Block b;
    b.mixer_norm = rms(), b.mixer = attention(), b.mlp_norm = rms(), b.feed_forward = mlp();
    return b;
  }
  void ends() {
    graph.dim = kDim, graph.vocab = kVocab, graph.context = 256;
    graph.embedding = table(kVocab, kDim);
    graph.final_norm = rms();
    graph.head = linear(kDim, kVocab);
  }
  [[nodiscard]] const std::vector<float>& values(TensorId id) const {
    return values_.at(key_of(static_cast<std::size_t>(id.index)));
  }
  Graph graph;

 private:
  /// Of `values_`: the tensor, but where the use is not all of it the use itself.
  [[nodiscard]] std::string key_of(std::size_t index) const {
    const TensorUse& use = graph.tensors[index];
    return use.run > 0 || use.as == TensorUse::As::kConstant ? fmt::format("use {}", index) : use.tensor;
  }
  Linear runs(TensorId whole, int first) {
    TensorUse use = graph.tensors[static_cast<std::size_t>(whole.index)];
    use.first = static_cast<std::uint64_t>(first), use.count = kHeads * kHeadDim, use.run = kHeadDim;
    use.step = 2 * kHeadDim;
    graph.tensors.push_back(use);
    const std::vector<float>& all = values_.at(use.tensor);
    std::vector<float>& mine = values_[key_of(graph.tensors.size() - 1)];
    for (int head = 0; head < kHeads; ++head) {
      const auto begin = all.begin() + (2 * head * kHeadDim + first) * kDim;
      mine.insert(mine.end(), begin, begin + kHeadDim * kDim);
    }
    return {{static_cast<int>(graph.tensors.size()) - 1}, {}, kHeads * kHeadDim};
  }
  TensorId add(TensorUse::As as, int rows, int columns, double centre, double size) {
    const auto number = graph.tensors.size();
    const std::string name = fmt::format("t{}", number);
    std::vector<float>& v = values_[name];
    for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(rows * columns); ++i)
      v.push_back(static_cast<float>(centre + size * 1.7 * (2 * uniform(11, number, i) - 1)));
    TensorView t;
    t.name = name, t.n_dims = 2;
    t.dims = {static_cast<std::uint64_t>(columns), static_cast<std::uint64_t>(rows), 1, 1};
    t.data = std::as_bytes(std::span(v));
    tensors_.push_back(t);
    graph.tensors.push_back({as, name, 0, 0, 1});
    return {static_cast<int>(number)};
  }
  std::map<std::string, std::vector<float>> values_;
};

/// The same graph in double, token by token over whole sequences, nothing cached.
class Truth {
 public:
  explicit Truth(const Parts& parts) : p_(parts), g_(parts.graph) {}

  Rows logits(const std::vector<int>& tokens) {
    Rows x;
    const auto& table = p_.values(g_.embedding);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      x.emplace_back(table.begin() + tokens[i] * kDim, table.begin() + (tokens[i] + 1) * kDim);
      for (int d = 0; d < kDim; ++d) {
        double& v = x.back()[at(d)];
        v *= static_cast<double>(g_.embedding_scale);
        if (g_.positions.there()) v += p_.values(g_.positions)[i * kDim + at(d)];
        if (g_.types.there()) v += p_.values(g_.types)[at(d)];
      }
      if (g_.embedding_norm) x.back() = norm(*g_.embedding_norm, x.back());
    }
    for (const Block& b : g_.blocks) {
      const Rows before = x;
      if (!std::holds_alternative<std::monostate>(b.mixer)) {
        const Rows mixed = std::visit([&](const auto& mixer) { return attend(mixer, pre(b.mixer_norm, x)); }, b.mixer);
        add(x, b.mixer_scale, post(b.mixer_post_norm, mixed));
      }
      const Rows in = b.parallel ? pre(b.mlp_norm ? b.mlp_norm : b.mixer_norm, before) : pre(b.mlp_norm, x);
      if (!std::holds_alternative<std::monostate>(b.feed_forward))
        add(x, b.mlp_scale, post(b.mlp_post_norm, feed(b.feed_forward, in)));
      for (Row& row : x)
        for (double& v : row) v *= static_cast<double>(b.output_scale);
    }
    Rows out;
    for (Row& row : x) {
      out.push_back(linear(g_.head, norm(*g_.final_norm, row)));
      for (double& v : out.back()) {
        v *= static_cast<double>(g_.logit_scale);
        if (const double cap = g_.logit_cap; cap > 0) v = cap * std::tanh(v / cap);
      }
    }
    return out;
  }

 private:
  static std::size_t at(int i) { return static_cast<std::size_t>(i); }
  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
  static void add(Rows& x, double scale, const Rows& what) {
    for (std::size_t r = 0; r < x.size(); ++r)
      for (std::size_t d = 0; d < x[r].size(); ++d) x[r][d] += scale * what[r][d];
  }
  Rows pre(const std::optional<Norm>& n, Rows x) const { return post(n, std::move(x)); }
  Rows post(const std::optional<Norm>& n, Rows x) const {
    for (Row& row : x)
      if (n) row = norm(*n, row);
    return x;
  }
  [[nodiscard]] Row norm(const Norm& n, std::span<const double> x) const {
    const auto& weight = p_.values(n.weight);
    double mean = 0, squares = 0;
    if (n.bias.there()) mean = std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
    for (const double v : x) squares += (v - mean) * (v - mean);
    const double size = std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(n.eps));
    Row out;
    for (std::size_t i = 0; i < x.size(); ++i)
      out.push_back((x[i] - mean) / size * weight[i] + (n.bias.there() ? p_.values(n.bias)[i] : 0));
    return out;
  }
  [[nodiscard]] Row linear(const Linear& l, const Row& x, int expert = 0) const {
    const auto& w = p_.values(l.weight);
    Row out;
    for (int o = 0; o < l.outputs; ++o) {
      const std::size_t row = at(expert) * at(static_cast<int>(l.outputs)) + at(o);
      double sum = l.bias.there() ? p_.values(l.bias)[row] : 0;
      for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * w[row * x.size() + i];
      out.push_back(sum);
    }
    return out;
  }
  /// A norm over all of a row, or over each head.
  void head_norm(const std::optional<Norm>& n, Row& row) const {
    if (!n) return;
    const std::size_t width = p_.values(n->weight).size();
    for (std::size_t first = 0; first < row.size(); first += width) {
      const Row part = norm(*n, std::span<const double>(row).subspan(first, width));
      std::ranges::copy(part, row.begin() + static_cast<std::ptrdiff_t>(first));
    }
  }
  void turn(int rope, Row& row, std::size_t position) const { turn(rope, row, position, kHeadDim); }
  void turn_one(int rope, Row& row, std::size_t position) const { turn(rope, row, position, row.size()); }
  void turn(int rope, Row& row, std::size_t position, std::size_t head_dim) const {
    if (rope < 0) return;
    const RopeSpec& r = g_.ropes[at(rope)];
    for (std::size_t head = 0; head < row.size(); head += head_dim)
      for (int i = 0; i < r.rotated / 2; ++i) {
        double &a = row[head + at(r.adjacent ? 2 * i : i)],
               &b = row[head + at(r.adjacent ? 2 * i + 1 : i + r.rotated / 2)];
        const auto p = static_cast<double>(position);
        const double angle = p * r.frequencies[at(i)], x = a, y = b;
        const double size =
            r.magnitude * (1 + r.growth * std::log(1 + std::floor((p + r.growth_offset) / r.growth_every)));
        a = (x * std::cos(angle) - y * std::sin(angle)) * size;
        b = (x * std::sin(angle) + y * std::cos(angle)) * size;
      }
  }
  /// Not absorbed: each head has keys and values of its own, made from the latent.
  Rows attend(const LatentAttention& a, const Rows& x) {
    const auto &up = p_.values(a.key_up.weight), &down = p_.values(a.value_up.weight);
    const std::size_t lat = at(a.latent_dim), plain = at(a.plain), turning = at(a.turning);
    Rows latents, turned;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const Row both = linear(a.latent, x[t]);
      latents.push_back(norm(a.latent_norm, std::span<const double>(both).first(lat)));
      turned.emplace_back(both.begin() + a.latent_dim, both.end());
      turn_one(a.rope, turned.back(), t);
    }
    Rows out;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const Row q = a.query_down.weight.there() ? linear(a.query, norm(a.query_norm, linear(a.query_down, x[t])))
                                                : linear(a.query, x[t]);
      Row heads;
      for (std::size_t h = 0; h < at(a.heads); ++h) {
        const auto first = q.begin() + static_cast<std::ptrdiff_t>(h * (plain + turning));
        Row turning_query(first + a.plain, first + a.plain + a.turning);
        turn_one(a.rope, turning_query, t);
        std::vector<double> weight;
        double mass = 0;
        for (std::size_t s = 0; s <= t; ++s) {
          double dot = 0;
          for (std::size_t d = 0; d < plain; ++d) {
            double key = 0;
            for (std::size_t l = 0; l < lat; ++l) key += up[(h * lat + l) * plain + d] * latents[s][l];
            dot += first[static_cast<std::ptrdiff_t>(d)] * key;
          }
          for (std::size_t d = 0; d < turning; ++d) dot += turning_query[d] * turned[s][d];
          weight.push_back(std::exp(dot * static_cast<double>(a.scale)));
          mass += weight.back();
        }
        for (std::size_t d = 0; d < at(a.value_dim); ++d) {
          double sum = 0;
          for (std::size_t s = 0; s <= t; ++s) {
            double value = 0;
            for (std::size_t l = 0; l < lat; ++l) value += down[(h * at(a.value_dim) + d) * lat + l] * latents[s][l];
            sum += weight[s] / mass * value;
          }
          heads.push_back(sum);
        }
      }
      out.push_back(linear(a.output, heads));
    }
    return out;
  }
  static Rows attend(const std::monostate&, const Rows& x) { return x; }
  static Row feed(const std::monostate&, const Row& x) { return x; }
  void norm_and_turn(const SoftmaxAttention& a, const std::optional<Norm>& n, int rope, Row& row, std::size_t t) {
    if (!a.norm_after_rope) head_norm(n, row);
    turn(rope, row, t);
    if (a.norm_after_rope) head_norm(n, row);
  }
  Rows attend(const SoftmaxAttention& a, const Rows& x) {
    Rows k, v;
    if (a.cache_of < 0) {
      for (std::size_t t = 0; t < x.size(); ++t) {
        k.push_back(linear(a.key, x[t])), v.push_back(linear(a.value, x[t]));
        norm_and_turn(a, a.key_norm, a.rope, k.back(), t);
        head_norm(a.value_norm, v.back());
      }
      remembered_.push_back({k, v});
    } else {
      std::tie(k, v) = remembered_[at(a.cache_of)];
      remembered_.push_back({k, v});
    }
    Rows out;
    for (std::size_t t = 0; t < x.size(); ++t) {
      Row q = linear(a.query, x[t]), heads;
      norm_and_turn(a, a.query_norm, a.query_rope >= 0 ? a.query_rope : a.rope, q, t);
      for (int h = 0; h < a.heads; ++h) {
        const auto kv = at(h / (a.heads / a.kv_heads)) * kHeadDim;
        std::vector<double> weight(x.size(), 0);
        double mass = a.sinks.there() ? std::exp(p_.values(a.sinks)[at(h)]) : 0;
        for (std::size_t s = 0; s < x.size(); ++s) {
          if (!a.both_ways && s > t) continue;
          if (a.window > 0 && t - s >= at(a.window)) continue;
          double dot = 0;
          for (std::size_t d = 0; d < kHeadDim; ++d) dot += q[at(h) * kHeadDim + d] * k[s][kv + d];
          dot *= static_cast<double>(a.scale);
          if (a.softcap > 0) dot = static_cast<double>(a.softcap) * std::tanh(dot / static_cast<double>(a.softcap));
          mass += weight[s] = std::exp(dot);
        }
        for (std::size_t d = 0; d < kHeadDim; ++d) {
          double sum = 0;
          for (std::size_t s = 0; s < x.size(); ++s) sum += weight[s] / mass * v[s][kv + d];
          heads.push_back(sum);
        }
      }
      if (a.gate.weight.there()) {
        const Row gate = linear(a.gate, x[t]);
        for (std::size_t i = 0; i < heads.size(); ++i) heads[i] *= sigmoid(gate[i / (heads.size() / gate.size())]);
      }
      out.push_back(linear(a.output, heads));
    }
    return out;
  }
  static double silu(double x) { return x * sigmoid(x); }
  static double softplus(double x) { return std::log1p(std::exp(x)); }
  Rows convolve(const Convolution& c, const Rows& x) const {
    const auto& w = p_.values(c.weight);
    Rows out;
    for (std::size_t p = 0; p < x.size(); ++p) {
      out.emplace_back();
      for (std::size_t i = 0; i < x[p].size(); ++i) {
        double sum = c.bias.there() ? p_.values(c.bias)[i] : 0;
        for (std::size_t t = 0; t < at(c.taps); ++t)
          if (p + t + 1 >= at(c.taps)) sum += w[i * at(c.taps) + t] * x[p + t + 1 - at(c.taps)][i];
        out.back().push_back(sum);
      }
    }
    return out;
  }
  /// S after one token; what its query reads of it.
  static Row step(Rows& state, double decay, double strength, bool corrects, const Row& q, const Row& k, const Row& v) {
    Row out(v.size(), 0);
    for (Row& row : state)
      for (double& s : row) s *= decay;
    for (std::size_t d = 0; d < v.size(); ++d) {
      double found = 0;
      for (std::size_t i = 0; i < k.size(); ++i) found += state[i][d] * k[i];
      const double u = strength * (v[d] - (corrects ? found : 0));
      for (std::size_t i = 0; i < k.size(); ++i) state[i][d] += k[i] * u, out[d] += state[i][d] * q[i];
    }
    return out;
  }
  static Row cut(const Row& row, std::size_t first, std::size_t count) {
    return {row.begin() + static_cast<std::ptrdiff_t>(first), row.begin() + static_cast<std::ptrdiff_t>(first + count)};
  }
  Rows attend(const GatedDeltaNet& m, const Rows& x) {
    Rows in;
    for (const Row& row : x) in.push_back(linear(m.input, row));
    in = convolve(m.convolution, in);
    const std::size_t dk = at(m.key_dim), dv = at(m.value_dim), keys = at(m.key_heads), each = at(m.value_heads) / keys;
    std::vector<Rows> states(at(m.value_heads), Rows(dk, Row(dv, 0)));
    const auto unit = [&](Row v) {
      double squares = static_cast<double>(m.eps);
      for (double& e : v) squares += e * e;
      for (double& e : v) e /= std::sqrt(squares);
      return v;
    };
    Rows out;
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (double& v : in[t]) v = silu(v);
      const Row z = linear(m.gate, x[t]), b = linear(m.beta, x[t]);
      const Row a = m.decay.weight.there() ? linear(m.decay, x[t]) : b;
      Row heads;
      for (std::size_t h = 0; h < at(m.value_heads); ++h) {
        const std::size_t key = m.tiled ? h % keys : h / each;
        const bool both = !m.decay.weight.there();
        const std::size_t beta = both ? h / each * 2 * each + h % each : h, alpha = both ? beta + each : h;
        Row q = unit(cut(in[t], key * dk, dk));
        for (double& v : q) v /= std::sqrt(static_cast<double>(dk));
        const double decay = std::exp(p_.values(m.decay_rate)[h] * softplus(a[alpha] + p_.values(m.decay_bias)[h]));
        const Row found = step(states[h], decay, sigmoid(b[beta]), true, q, unit(cut(in[t], (keys + key) * dk, dk)),
                               cut(in[t], 2 * keys * dk + h * dv, dv));
        const Row normed = norm(m.norm, found);
        for (std::size_t d = 0; d < dv; ++d) heads.push_back(normed[d] * silu(z[h * dv + d]));
      }
      out.push_back(linear(m.output, heads));
    }
    return out;
  }
  Rows attend(const ShortConvolution& m, const Rows& x) {
    Rows in;
    for (const Row& row : x) {
      in.push_back(linear(m.input, row));
      const Row b = linear(m.before, row);
      for (std::size_t i = 0; i < b.size(); ++i) in.back()[i] *= b[i];
    }
    in = convolve(m.convolution, in);
    Rows out;
    for (std::size_t t = 0; t < x.size(); ++t) {
      const Row c = linear(m.after, x[t]);
      for (std::size_t i = 0; i < c.size(); ++i) in[t][i] *= c[i];
      out.push_back(linear(m.output, in[t]));
    }
    return out;
  }
  Rows attend(const Mamba2& m, const Rows& x) {
    Rows in;
    for (const Row& row : x) in.push_back(linear(m.input, row));
    in = convolve(m.convolution, in);
    const std::size_t n = at(m.state_dim), dv = at(m.head_dim), inner = at(m.inner());
    std::vector<Rows> states(at(m.heads), Rows(n, Row(dv, 0)));
    Rows out;
    for (std::size_t t = 0; t < x.size(); ++t) {
      for (double& v : in[t]) v = silu(v);
      const Row z = linear(m.gate, x[t]), steps = linear(m.step, x[t]);
      Row y;
      for (std::size_t h = 0; h < at(m.heads); ++h) {
        const std::size_t group = h / at(m.heads / m.groups);
        const double dt = softplus(steps[h] + p_.values(m.step_bias)[h]);
        const Row v = cut(in[t], h * dv, dv);
        const Row found = step(states[h], std::exp(dt * p_.values(m.decay_rate)[h]), dt, false,
                               cut(in[t], inner + (at(m.groups) + group) * n, n), cut(in[t], inner + group * n, n), v);
        for (std::size_t d = 0; d < dv; ++d)
          y.push_back((found[d] + p_.values(m.skip)[h] * v[d]) * silu(z[h * dv + d]));
      }
      const std::size_t size = inner / at(m.groups);
      for (std::size_t first = 0; first < inner; first += size) {
        double squares = 0;
        for (std::size_t i = first; i < first + size; ++i) squares += y[i] * y[i];
        for (std::size_t i = first; i < first + size; ++i)
          y[i] *= p_.values(m.norm.weight)[i] /
                  std::sqrt(squares / static_cast<double>(size) + static_cast<double>(m.norm.eps));
      }
      out.push_back(linear(m.output, y));
    }
    return out;
  }
  static double activated(const Activation& a, double gate, double up) {
    const auto gelu = [](double x) {
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    };
    switch (a.kind) {
      case Activation::Kind::kSiluMul: return gate * sigmoid(gate) * up;
      case Activation::Kind::kGelu: return gelu(up);
      case Activation::Kind::kGeluMul: return gelu(gate) * up;
      case Activation::Kind::kReluSquared: return std::max(up, 0.0) * std::max(up, 0.0);
      case Activation::Kind::kSwigluClamped: break;
    }
    const double limit = a.limit, g = std::min(gate, limit);
    return g * sigmoid(static_cast<double>(a.alpha) * g) * (std::clamp(up, -limit, limit) + 1);
  }
  [[nodiscard]] Row feed(const Activation& kind, const Linear& gate, const Linear& up, const Linear& down, const Row& x,
                         int expert = 0) const {
    const Row u = linear(up, x, expert), g = kind.gated() ? linear(gate, x, expert) : u;
    Row inside;
    for (std::size_t i = 0; i < u.size(); ++i) inside.push_back(activated(kind, g[i], u[i]));
    return linear(down, inside, expert);
  }
  [[nodiscard]] Row feed(const Mlp& m, const Row& x) const { return feed(m.activation, m.gate, m.up, m.down, x); }
  [[nodiscard]] Row feed(const Moe& m, const Row& x) const {
    const Row logits = linear(m.router, x);
    Row score = logits;
    double all = 0;
    for (const double l : logits) all += std::exp(l);
    for (double& s : score) s = m.routing.score == Routing::Score::kSigmoid ? sigmoid(s) : std::exp(s) / all;
    Row by = score;
    for (std::size_t e = 0; e < by.size(); ++e)
      if (m.choice_bias.there()) by[e] += p_.values(m.choice_bias)[e];
    const std::size_t size = by.size() / at(m.routing.groups);
    std::vector<std::pair<double, std::size_t>> groups;
    for (std::size_t g = 0; g < at(m.routing.groups); ++g) {
      Row members(by.begin() + static_cast<std::ptrdiff_t>(g * size),
                  by.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
      std::ranges::sort(members, std::greater<>());
      groups.emplace_back(-(members[0] + members[1]), g);
    }
    std::ranges::sort(groups);
    std::vector<std::pair<double, int>> order;
    for (std::size_t g = 0; g < at(m.routing.groups_active); ++g)
      for (std::size_t e = groups[g].second * size; e < (groups[g].second + 1) * size; ++e)
        order.emplace_back(-by[e], static_cast<int>(e));
    std::ranges::sort(order);
    double sum = 0;
    for (std::size_t i = 0; i < at(m.routing.active); ++i) sum += score[at(order[i].second)];
    Row out(kDim, 0);
    for (std::size_t i = 0; i < at(m.routing.active); ++i) {
      const int e = order[i].second;
      const bool divided = m.routing.normalize || m.routing.score == Routing::Score::kSoftmaxOfChosen;
      const double weight = score[at(e)] / (divided ? sum + static_cast<double>(m.routing.normalize_eps) : 1) *
                            static_cast<double>(m.routing.scale);
      Row in = x;
      for (double& v : in) v *= m.routing.of_input ? weight : 1;
      const Row y = feed(m.activation, m.gate, m.up, m.down, in, e);
      for (std::size_t d = 0; d < kDim; ++d) out[d] += (m.routing.of_input ? 1 : weight) * y[d];
    }
    if (m.shared) {
      const Row y = feed(*m.shared, x);
      const double gate = m.shared_gate.weight.there() ? sigmoid(linear(m.shared_gate, x)[0]) : 1;
      for (std::size_t d = 0; d < kDim; ++d) out[d] += gate * y[d];
    }
    return out;
  }
  [[nodiscard]] Rows feed(const FeedForward& f, const Rows& x) const {
    Rows out;
    for (const Row& row : x) out.push_back(std::visit([&](const auto& part) { return feed(part, row); }, f));
    return out;
  }

  const Parts& p_;
  const Graph& g_;
  std::vector<std::pair<Rows, Rows>> remembered_;
};

}  // namespace llorch
