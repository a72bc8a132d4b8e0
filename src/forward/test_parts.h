// For model_test: random tensors, and a graph of the parts to be proven.
#pragma once

#include <cmath>
#include <map>
#include <string>
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
  /// Between norms of their own; the router's logits are scaled, and each expert.
  Moe mixture_of_norms() {
    Moe m = moe({.active = 3});
    m.router_norm = rms(), m.router_scale = 0.5f, m.expert_scale = vector(kExperts, 1, 0.5);
    m.input_norm = rms(), m.output_norm = rms();
    m.shared = mlp(), m.shared_input_norm = rms(), m.shared_output_norm = rms();
    return m;
  }
  void layer_inputs() {
    constexpr int kWidth = 12;
    const int all = kWidth * static_cast<int>(graph.blocks.size());
    graph.layer_inputs = LayerInputs{table(kVocab, all), linear(kDim, all), rms(kWidth), kWidth};
    for (Block& b : graph.blocks) b.layer_input = LayerInput{linear(kDim, kWidth), linear(kWidth, kDim), rms()};
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

}  // namespace llorch
