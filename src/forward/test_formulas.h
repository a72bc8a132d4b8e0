// For model_test: the formulas of a graph's parts in double.
// Norms: Zhang and Sennrich 2019; Ba et al. 2016. Grouped attention with its extras: Vaswani et al. 2017; Ainslie et
// al. 2023. Rotary embedding: Su et al. 2021. Gated feed-forwards: Shazeer 2020. Mixtures: Shazeer et al. 2017;
// DeepSeek-AI 2024 for groups and biased choice. Parallel blocks: Wang and Komatsuzaki 2021. The gated delta rule: Yang
// et al. 2024. Mamba 2: Dao and Gu 2024. Gated short convolutions: Liquid AI 2025.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "forward/test_parts.h"

namespace llorch {

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
    const Rows inputs = layer_inputs(tokens, x);
    for (const Block& b : g_.blocks) {
      const Rows before = x;
      if (!std::holds_alternative<std::monostate>(b.mixer)) {
        const Rows mixed = std::visit([&](const auto& mixer) { return attend(mixer, pre(b.mixer_norm, x)); }, b.mixer);
        add(x, b.mixer_scale, post(b.mixer_post_norm, mixed));
        x = post(b.mixer_stream_norm, x);
      }
      const Rows in = b.parallel ? pre(b.mlp_norm ? b.mlp_norm : b.mixer_norm, before) : pre(b.mlp_norm, x);
      if (!std::holds_alternative<std::monostate>(b.feed_forward))
        add(x, b.mlp_scale, post(b.mlp_post_norm, feed(b.feed_forward, in)));
      x = post(b.mlp_stream_norm, x);
      for (std::size_t t = 0; b.layer_input && t < x.size(); ++t) {
        Row inside = linear(b.layer_input->gate, x[t]);
        const std::size_t first = at(static_cast<int>(&b - g_.blocks.data())) * inside.size();
        for (std::size_t i = 0; i < inside.size(); ++i)
          inside[i] = activated({Activation::Kind::kGeluMul}, inside[i], inputs[t][first + i]);
        const Row more = norm(b.layer_input->norm, linear(b.layer_input->projection, inside));
        for (std::size_t d = 0; d < more.size(); ++d) x[t][d] += more[d];
      }
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
  Rows layer_inputs(const std::vector<int>& tokens, const Rows& x) const {
    Rows out;
    for (std::size_t t = 0; g_.layer_inputs && t < x.size(); ++t) {
      const auto& table = p_.values(g_.layer_inputs->table);
      const auto width = at(g_.layer_inputs->width);
      Row row = linear(g_.layer_inputs->projection, x[t]);
      for (double& v : row) v /= std::sqrt(kDim);
      head_norm(g_.layer_inputs->norm, row);
      for (std::size_t i = 0; i < row.size(); ++i) {
        const double stored = table[at(tokens[t]) * row.size() + i];
        row[i] = (row[i] + stored * std::sqrt(static_cast<double>(width))) / std::sqrt(2.0);
      }
      out.push_back(std::move(row));
    }
    return out;
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
          if (a.window > 0 && !a.both_ways && t - s >= at(a.window)) continue;
          if (a.window > 0 && a.both_ways && std::max(t, s) - std::min(t, s) > at(a.window / 2)) continue;
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
      case Activation::Kind::kGeluErf: return 0.5 * up * (1 + std::erf(up / std::sqrt(2.0)));
      case Activation::Kind::kGeluErfMul: return 0.5 * gate * (1 + std::erf(gate / std::sqrt(2.0))) * up;
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
    Row logits = linear(m.router, m.router_norm ? norm(*m.router_norm, x) : x);
    for (double& l : logits) l *= static_cast<double>(m.router_scale);
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
      const double scale = m.expert_scale.there() ? static_cast<double>(p_.values(m.expert_scale)[at(e)]) : 1;
      Row in = m.input_norm ? norm(*m.input_norm, x) : x;
      for (double& v : in) v *= m.routing.of_input ? weight : 1;
      const Row y = feed(m.activation, m.gate, m.up, m.down, in, e);
      for (std::size_t d = 0; d < kDim; ++d) out[d] += (m.routing.of_input ? 1 : weight * scale) * y[d];
    }
    if (m.output_norm) out = norm(*m.output_norm, out);
    if (m.shared) {
      Row y = feed(*m.shared, m.shared_input_norm ? norm(*m.shared_input_norm, x) : x);
      if (m.shared_output_norm) y = norm(*m.shared_output_norm, y);
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
