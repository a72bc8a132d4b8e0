#include "nn/decoder.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace llorch {
namespace {

/// Rows whose values between an MLP's products are there at once. Fewer make the products slower.
constexpr std::int64_t kMlpRows = 256;

/// Larger queries and keys could make scores overflow, larger values a sum over all positions.
constexpr float kQueryMost = 1e15f, kValueMost = 1e30f, kMost = std::numeric_limits<float>::max();
constexpr auto kSame = [](std::size_t row) { return row; };

std::int64_t gate_width(const Layer& layer) {
  if (const auto* mlp = std::get_if<Mlp>(&layer.mlp)) return mlp->up.weight->rows();
  return std::get<Moe>(layer.mlp).experts.front().up.weight->rows();
}

LinearPart part(const Linear& linear, DeviceSpan out) { return {linear.weight.get(), linear.bias.span(), out}; }

/// Indices of the `count` largest values, largest first; of equal ones the lower index.
std::vector<int> top_indices(std::span<const float> values, int count) {
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + count, order.end(), [&](int a, int b) {
    const auto x = values[static_cast<std::size_t>(a)], y = values[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

/// Softmax over the chosen logits, in double.
std::vector<float> softmax_of(std::span<const float> logits, const std::vector<int>& chosen) {
  std::vector<double> weights;
  double sum = 0;
  for (const int i : chosen) {
    weights.push_back(std::exp(static_cast<double>(logits[static_cast<std::size_t>(i)]) -
                               logits[static_cast<std::size_t>(chosen.front())]));
    sum += weights.back();
  }
  std::vector<float> result;
  for (const double w : weights) result.push_back(static_cast<float>(w / sum));
  return result;
}

}  // namespace

Result<std::unique_ptr<Decoder>> Decoder::make(Backend& backend, Parts parts, int rows_max) {
  std::unique_ptr<Decoder> decoder(new Decoder(backend, std::move(parts), rows_max));
  LLORCH_OK(decoder->allocate());
  return decoder;
}

Status Decoder::allocate() {
  std::int64_t query = 0, key = 0, hidden = 0, experts = 0;
  for (const Layer& layer : parts_.layers) {
    query = std::max(query, std::int64_t{layer.attention.heads} * layer.attention.head_dim);
    key = std::max(key, std::int64_t{layer.attention.kv_heads} * layer.attention.head_dim);
    hidden = std::max(hidden, gate_width(layer));
    if (const auto* moe = std::get_if<Moe>(&layer.mlp)) experts = std::max(experts, moe->router.weight->rows());
  }
  const auto get = [&](DeviceBuffer& buffer, std::int64_t columns) -> Status {
    LLORCH_TRY(buffer, backend_.allocate(static_cast<std::size_t>(rows_max_ * columns)));
    return {};
  };
  for (DeviceBuffer* b : {&stream_, &selected_}) LLORCH_OK(get(*b, parts_.dim));
  for (DeviceBuffer* b : {&normed_, &branch_}) LLORCH_OK(get(*b, std::max<std::int64_t>(parts_.dim, query)));
  LLORCH_OK(get(logits_, parts_.vocab));  // address space only: pages come when they are written
  for (DeviceBuffer* b : {&key_, &value_}) LLORCH_OK(get(*b, key));
  for (DeviceBuffer* b : {&gate_, &up_}) LLORCH_OK(get(*b, hidden));
  if (experts > 0) {
    LLORCH_OK(get(router_, experts));
    LLORCH_OK(get(picked_, parts_.dim));
    std::int64_t active = 0;
    for (const Layer& layer : parts_.layers)
      if (const auto* moe = std::get_if<Moe>(&layer.mlp)) active = std::max<std::int64_t>(active, moe->active);
    LLORCH_OK(get(expert_out_, parts_.dim * active));
  }
  for (const RopeSpec& rope : parts_.ropes) {
    LLORCH_OK(get(cos_.emplace_back(), rope.rotated / 2));
    LLORCH_OK(get(sin_.emplace_back(), rope.rotated / 2));
  }
  return {};
}

KvShape Decoder::kv_shape(int pages, KvPrecision precision) const {
  const Attention& a = parts_.layers.front().attention;
  return {static_cast<int>(parts_.layers.size()), a.kv_heads, a.head_dim, pages, precision};
}

DeviceSpan Decoder::scratch(const DeviceBuffer& buffer, std::int64_t rows, std::int64_t columns) const {
  return buffer.span().part(0, static_cast<std::size_t>(rows * columns));
}

void Decoder::observe(const char* name, DeviceSpan values, std::int64_t rows) {
  if (!observer_) return;
  std::vector<float> host(values.size());
  backend_.download(values, host);
  (*observer_)(prefix_ + name, host, rows, static_cast<std::int64_t>(values.size()) / rows);
}

bool Decoder::normalize(const Norm& norm, DeviceSpan x, DeviceSpan out) {
  if (norm.bias.empty()) return backend_.rms_norm(x, norm.weight.span(), norm.eps, out);
  return backend_.layer_norm(x, norm.weight.span(), norm.bias.span(), norm.eps, out);
}

template<class Of>
void Decoder::mark(const char* place, const Of& of, std::size_t rows) {
  for (std::size_t i = 0; i < rows; ++i)
    if (bad_[i])
      if (RowFault& fault = faults_[static_cast<std::size_t>(of(i))]; !fault.place) fault = {layer_, place};
}

template<class Of>
void Decoder::check(DeviceSpan x, std::int64_t rows, const char* place, float limit, const Of& of) {
  bad_.assign(static_cast<std::size_t>(rows), 0);
  if (!backend_.check(x, rows, limit, bad_)) mark(place, of, static_cast<std::size_t>(rows));
}

Status Decoder::finite_rows(std::size_t first, std::size_t count) const {
  for (std::size_t r = first; r < first + count; ++r) {
    const RowFault& fault = faults_[r];
    if (!fault.place) continue;
    const bool within = fault.layer < static_cast<int>(parts_.layers.size());
    return fail(ErrorCode::kInferenceFailed, "{}: {} not finite, or too large to compute with",
                within ? fmt::format("layer {}", fault.layer) : "after the last layer", fault.place);
  }
  return {};
}

Status Decoder::embed(std::span<const BatchRow> rows) {
  std::vector<std::int32_t> ids;
  for (const BatchRow& row : rows) ids.push_back(row.token);
  const DeviceSpan stream = scratch(stream_, static_cast<std::int64_t>(rows.size()), parts_.dim);
  LLORCH_OK(backend_.embed(*parts_.embedding, ids, stream));
  if (parts_.positions) {
    const DeviceSpan learned = scratch(branch_, static_cast<std::int64_t>(rows.size()), parts_.dim);
    for (std::size_t i = 0; i < rows.size(); ++i) ids[i] = rows[i].position;
    LLORCH_OK(backend_.embed(*parts_.positions, ids, learned));
    backend_.add(learned, stream);
  }
  observe("embedding", stream, static_cast<std::int64_t>(rows.size()));
  return {};
}

void Decoder::rope_tables(std::span<const BatchRow> rows) {
  std::vector<std::int32_t> positions;
  for (const BatchRow& row : rows) positions.push_back(row.position);
  std::vector<float> cos, sin;
  for (std::size_t i = 0; i < parts_.ropes.size(); ++i) {
    parts_.ropes[i].fill(positions, cos, sin);
    backend_.upload(cos, cos_[i].span());
    backend_.upload(sin, sin_[i].span());
  }
}

void Decoder::rotate(const Attention& a, DeviceSpan x, int heads, std::int64_t rows) {
  if (a.rope < 0) return;
  const RopeSpec& rope = parts_.ropes[static_cast<std::size_t>(a.rope)];
  backend_.rope(x, rows, heads, a.head_dim, cos_[static_cast<std::size_t>(a.rope)].span(),
                sin_[static_cast<std::size_t>(a.rope)].span(), rope.rotated, rope.adjacent);
}

void Decoder::attend(const Layer& layer, int index, std::span<const BatchRow> rows, KvStore& kv) {
  const Attention& a = layer.attention;
  const auto n = static_cast<std::int64_t>(rows.size());
  const DeviceSpan stream = scratch(stream_, n, parts_.dim), normed = scratch(normed_, n, parts_.dim),
                   branch = scratch(branch_, n, parts_.dim);
  const std::int64_t wide = std::int64_t{a.heads} * a.head_dim, narrow = std::int64_t{a.kv_heads} * a.head_dim;
  const DeviceSpan q = scratch(branch_, n, wide), heads = scratch(normed_, n, wide);
  const DeviceSpan k = scratch(key_, n, narrow), v = scratch(value_, n, narrow);
  if (!normalize(layer.attention_norm, stream, normed)) check(normed, n, "the attention's input is", kMost, kSame);
  observe("attn_norm", normed, n);
  const LinearPart projections[] = {part(a.query, q), part(a.key, k), part(a.value, v)};
  backend_.linear(projections, normed, n);
  observe("q", q, n);
  observe("k", k, n);
  observe("v", v, n);
  if (a.query_norm) (void)normalize(*a.query_norm, q, q);  // looked at below
  if (a.key_norm) (void)normalize(*a.key_norm, k, k);
  rotate(a, q, a.heads, n);
  rotate(a, k, a.kv_heads, n);
  observe("q_rope", q, n);
  observe("k_rope", k, n);
  // Scores lose what is not finite; and pages never hold it, because others will use them.
  check(q, n, "queries are", kQueryMost, kSame);
  check(k, n, "keys are", kQueryMost, kSame);
  check(v, n, "values are", kValueMost, kSame);
  backend_.kv_write(kv, index, rows, k, v);
  backend_.attention({q, heads, &kv, index, a.heads, a.scale, a.window, a.softcap, a.sinks}, rows);
  observe("attn", heads, n);
  check(heads, n, "the attention's output is", kMost, kSame);
  const LinearPart output[] = {part(a.output, branch)};
  backend_.linear(output, heads, n);
  observe("attn_out", branch, n);
  backend_.add(branch, stream);
  observe("attn_residual", stream, n);
}

/// Some rows at a time: what lies between its products takes more room than all else.
void Decoder::mlp(const Mlp& m, std::int64_t rows) {
  const std::int64_t slices = (rows + kMlpRows - 1) / kMlpRows, width = m.up.weight->rows();
  for (std::int64_t i = 0; i < slices; ++i) {
    const std::int64_t first = rows * i / slices, n = rows * (i + 1) / slices - first;
    const auto slice = [&](const DeviceBuffer& buffer) {
      return buffer.span().part(static_cast<std::size_t>(first * parts_.dim), static_cast<std::size_t>(n * parts_.dim));
    };
    const DeviceSpan gate = scratch(gate_, n, width), up = scratch(up_, n, width);
    if (m.kind == Activation::kGelu) {
      const LinearPart parts[] = {part(m.up, gate)};
      backend_.linear(parts, slice(normed_), n);
    } else {
      const LinearPart parts[] = {part(m.gate, gate), part(m.up, up)};
      backend_.linear(parts, slice(normed_), n);
    }
    if (!backend_.activate(m.kind, gate, up, 0, 0, gate))
      check(gate, n, "values inside the MLP are", kMost,
            [&](std::size_t row) { return first + static_cast<std::int64_t>(row); });
    const LinearPart down[] = {part(m.down, slice(branch_))};
    backend_.linear(down, gate, n);
  }
}

/// The routing logits, on the host; finite.
void Decoder::route(const Moe& m, std::int64_t rows, std::vector<float>& logits) {
  const std::int64_t experts = m.router.weight->rows();
  const DeviceSpan routing = scratch(router_, rows, experts);
  const LinearPart router[] = {part(m.router, routing)};
  backend_.linear(router, scratch(normed_, rows, parts_.dim), rows);
  observe("router", routing, rows);
  check(routing, rows, "the router's logits are", kMost, kSame);
  logits.resize(routing.size());
  backend_.download(routing, logits);
  if (router_probe) router_probe(prefix_ + "router", logits);
}

/// Each expert computes all its tokens together; each token then sums its experts in rank order, so that neighbours do
/// not matter.
void Decoder::moe(const Moe& m, std::int64_t rows) {
  const std::int64_t experts = m.router.weight->rows(), width = m.experts.front().up.weight->rows(), dim = parts_.dim;
  const DeviceSpan normed = scratch(normed_, rows, dim);
  std::vector<float> logits;
  route(m, rows, logits);

  std::vector<std::vector<std::int32_t>> tokens(static_cast<std::size_t>(experts));  // rows of each expert
  std::vector<std::vector<std::int64_t>> slots(static_cast<std::size_t>(experts));   // row * active + rank
  std::vector<float> weights;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::span<const float> row(logits.data() + r * experts, static_cast<std::size_t>(experts));
    const std::vector<int> chosen = top_indices(row, m.active);
    for (const float w : softmax_of(row, chosen)) weights.push_back(w);
    for (int rank = 0; rank < m.active; ++rank) {
      tokens[static_cast<std::size_t>(chosen[static_cast<std::size_t>(rank)])].push_back(static_cast<std::int32_t>(r));
      slots[static_cast<std::size_t>(chosen[static_cast<std::size_t>(rank)])].push_back(r * m.active + rank);
    }
  }
  const auto at = [&](DeviceSpan span, std::int64_t row) {
    return span.part(static_cast<std::size_t>(row * dim), static_cast<std::size_t>(dim));
  };
  const DeviceSpan branch = scratch(branch_, rows, dim);
  for (std::int64_t e = 0; e < experts; ++e) {
    const auto& mine = tokens[static_cast<std::size_t>(e)];
    if (mine.empty()) continue;
    const auto n = static_cast<std::int64_t>(mine.size());
    const Moe::Expert& expert = m.experts[static_cast<std::size_t>(e)];
    const DeviceSpan picked = scratch(picked_, n, dim), gate = scratch(gate_, n, width), up = scratch(up_, n, width);
    backend_.gather(normed, dim, mine, picked);
    const LinearPart in[] = {part(expert.gate, gate), part(expert.up, up)};
    backend_.linear(in, picked, n);
    if (!backend_.activate(m.kind, gate, up, m.limit, m.alpha, gate))
      check(gate, n, "values inside an expert are", kMost, [&](std::size_t row) { return mine[row]; });
    const LinearPart down[] = {part(expert.down, picked)};
    backend_.linear(down, gate, n);
    for (std::int64_t i = 0; i < n; ++i)
      backend_.copy(at(picked, i),
                    at(expert_out_.span(), slots[static_cast<std::size_t>(e)][static_cast<std::size_t>(i)]));
  }
  const std::vector<float> zeros(branch.size());
  backend_.upload(zeros, branch);
  for (std::int64_t r = 0; r < rows; ++r)
    for (int rank = 0; rank < m.active; ++rank)
      backend_.add_scaled(at(expert_out_.span(), r * m.active + rank),
                          weights[static_cast<std::size_t>(r * m.active + rank)], at(branch, r));
}

Status Decoder::forward(std::span<const BatchRow> rows, KvStore& kv, std::span<const std::int32_t> logit_rows,
                        std::span<float> logits, const Observer* observer, std::span<const std::int32_t> state_rows,
                        std::span<float> states) {
  LLORCH_ASSERT(!rows.empty() && rows.size() <= static_cast<std::size_t>(rows_max_), "batch size outside 1..rows_max");
  observer_ = observer;
  prefix_.clear();
  const auto n = static_cast<std::int64_t>(rows.size());
  const DeviceSpan stream = scratch(stream_, n, parts_.dim);
  faults_.assign(rows.size(), {});
  layer_ = 0;
  LLORCH_OK(embed(rows));
  rope_tables(rows);
  for (std::size_t i = 0; i < parts_.layers.size(); ++i) {
    if (observer_) prefix_ = fmt::format("layer_{:02}.", i);
    const Layer& layer = parts_.layers[i];
    layer_ = static_cast<int>(i);
    attend(layer, static_cast<int>(i), rows, kv);
    if (!normalize(layer.mlp_norm, stream, scratch(normed_, n, parts_.dim)))
      check(scratch(normed_, n, parts_.dim), n, "the MLP's input is", kMost, kSame);
    observe("mlp_norm", scratch(normed_, n, parts_.dim), n);
    std::visit(
        [&](const auto& m) {
          if constexpr (std::is_same_v<std::decay_t<decltype(m)>, Mlp>)
            mlp(m, n);
          else
            moe(m, n);
        },
        layer.mlp);
    observe("mlp", scratch(branch_, n, parts_.dim), n);
    backend_.add(scratch(branch_, n, parts_.dim), stream);
    observe("output", stream, n);
  }
  prefix_.clear();
  layer_ = static_cast<int>(parts_.layers.size());
  const auto finish = [&](std::span<const std::int32_t> of, DeviceSpan selected, DeviceSpan normed) {
    backend_.gather(stream, parts_.dim, of, selected);
    if (!normalize(parts_.final_norm, selected, normed))
      check(normed, static_cast<std::int64_t>(of.size()), "the last norm's output is", kMost,
            [&](std::size_t row) { return of[row]; });
  };
  if (!state_rows.empty()) {
    const auto m = static_cast<std::int64_t>(state_rows.size());
    LLORCH_ASSERT(states.size() >= state_rows.size() * static_cast<std::size_t>(parts_.dim), "states buffer too small");
    const DeviceSpan selected = scratch(selected_, m, parts_.dim), normed = scratch(normed_, m, parts_.dim);
    finish(state_rows, selected, normed);
    backend_.download(normed, states.subspan(0, normed.size()));
  }
  if (!logit_rows.empty()) {
    const auto m = static_cast<std::int64_t>(logit_rows.size());
    LLORCH_ASSERT(logits.size() >= static_cast<std::size_t>(m) * static_cast<std::size_t>(parts_.vocab),
                  "logits buffer too small");
    const DeviceSpan selected = scratch(selected_, m, parts_.dim), normed = scratch(normed_, m, parts_.dim);
    finish(logit_rows, selected, normed);
    observe("final_norm", normed, m);
    const DeviceSpan out = scratch(logits_, m, parts_.vocab);
    const LinearPart head[] = {part(parts_.head, out)};
    backend_.linear(head, normed, m);
    observe("logits", out, m);
    backend_.download(out, logits.subspan(0, out.size()));
  }
  if (parts_.intact) LLORCH_OK(parts_.intact());
  return backend_.intact();
}

}  // namespace llorch
