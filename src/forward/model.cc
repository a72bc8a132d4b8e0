#include "forward/model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "model/memory.h"

namespace llorch {
namespace {

/// Rows whose values between an MLP's products are there at once. Fewer make the products slower.
constexpr std::int64_t kMlpRows = 256;

/// Larger queries and keys could make scores overflow, larger values a sum over all positions.
constexpr float kQueryMost = 1e15f, kValueMost = 1e30f, kMost = std::numeric_limits<float>::max();

}  // namespace

Status Model::allocate() {
  const Widths widths(graph_);
  const auto get = [&](FloatBuffer& buffer, std::int64_t width) -> Status {
    if (width > 0) {
      LLORCH_TRY(buffer, device_.allocate(rows_max_, width));
    }
    return {};
  };
  if (graph_.head.weight.there()) {
    LLORCH_TRY(logits_, device_.allocate(logit_rows_max_, graph_.vocab));
  }
  for (FloatBuffer* b : {&stream_, &selected_}) LLORCH_OK(get(*b, graph_.dim));
  for (FloatBuffer* b : {&normed_, &branch_}) LLORCH_OK(get(*b, std::max<std::int64_t>(graph_.dim, widths.query)));
  for (FloatBuffer* b : {&key_, &value_}) LLORCH_OK(get(*b, widths.key));
  for (FloatBuffer* b : {&gate_, &up_}) LLORCH_OK(get(*b, widths.inside));
  LLORCH_OK(get(extra_, widths.extra));
  for (FloatBuffer* b : {&heads_, &turned_}) LLORCH_OK(get(*b, widths.heads));
  LLORCH_OK(get(beside_, widths.parallel ? graph_.dim : 0));
  for (FloatBuffer* b : {&layer_inputs_, &layer_rows_}) LLORCH_OK(get(*b, widths.layer_inputs));
  LLORCH_OK(get(router_, widths.experts));
  LLORCH_OK(get(picked_, widths.experts > 0 ? graph_.dim : 0));
  return get(expert_out_, widths.active * graph_.dim);
}

void Model::observe(const char* name, FloatSpan values) {
  if (!observer_) return;
  std::vector<float> host(values.size());
  device_.download(values, host);
  (*observer_)(prefix_ + name, host, values.rows(), values.width());
}

void Model::multiply(std::span<const Product> products, FloatSpan x, RowSet rows, std::int64_t first) {
  constexpr std::size_t kMost = 4;
  LLORCH_ASSERT(products.size() <= kMost, "so many products with one input");
  std::array<LinearPart, kMost> parts;
  std::array<LowRankPart, kMost> added;
  std::size_t count = 0;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Linear& linear = *products[i].linear;
    parts[i] = {weight(linear.weight), vector(linear.bias), products[i].out};
    if (low_rank_.empty()) continue;
    const std::vector<LowRank>& mine = low_rank_[static_cast<std::size_t>(linear.weight.index)];
    if (!mine.empty()) added[count++] = {mine, products[i].out};
  }
  device_.linear(std::span(parts).first(products.size()), x);
  if (count > 0) device_.add_low_rank(std::span(added).first(count), x, rows, first);
}

void Model::normalize(const Norm& norm, FloatSpan x, FloatSpan out, const Guard* guard) const {
  if (norm.bias.there())
    device_.layer_norm(x, vector(norm.weight), vector(norm.bias), norm.eps, out, guard);
  else
    device_.rms_norm(x, vector(norm.weight), norm.eps, out, guard);
}

void Model::embed() {
  const FloatSpan stream = room(stream_, graph_.dim);
  device_.embed_tokens(*weight(graph_.embedding), stream);
  if (graph_.embedding_scale != 1) device_.scale(stream, graph_.embedding_scale);
  if (graph_.positions.there()) device_.add_positions(*weight(graph_.positions), stream);
  if (graph_.types.there()) device_.add_types(*weight(graph_.types), stream);
  if (graph_.embedding_norm) normalize(*graph_.embedding_norm, stream, stream, nullptr);
  observe("embedding", stream);
  if (graph_.layer_inputs) make_layer_inputs(*graph_.layer_inputs, stream);
  for (const auto& rope : ropes_) device_.fill_rope(*rope);
}

void Model::make_layer_inputs(const LayerInputs& inputs, FloatSpan stream) {
  const FloatSpan all = room(layer_inputs_, inputs.projection.outputs), rows = room(layer_rows_, all.width());
  multiply(inputs.projection, stream, all);
  device_.scale(all, static_cast<float>(1 / std::sqrt(static_cast<double>(graph_.dim))));
  const FloatSpan parts = all.as(rows_ * (all.width() / inputs.width), inputs.width);
  normalize(inputs.norm, parts, parts, nullptr);
  device_.look_up_tokens(*weight(inputs.table), rows);
  device_.scale(rows, static_cast<float>(std::sqrt(static_cast<double>(inputs.width))));
  device_.add(rows, 1, all);
  device_.scale(all, static_cast<float>(1 / std::sqrt(2.0)));
}

void Model::add_layer_input(const LayerInput& input, FloatSpan stream) {
  const std::int64_t width = input.gate.outputs;
  const FloatSpan gate = room(gate_, width), up = room(up_, width), out = room(branch_, graph_.dim);
  multiply(input.gate, stream, gate);
  device_.copy_columns(room(layer_inputs_, graph_.layer_inputs->projection.outputs), layer_ * width, width, up, 0);
  Activation gelu;
  gelu.kind = Activation::Kind::kGeluMul;
  device_.activate(gelu, gate, up, gate, guard(Place::kInsideMlp));
  multiply(input.projection, gate, out);
  normalize(input.norm, out, out, nullptr);
  device_.add(out, 1, stream);
}

/// `k` is empty where another layer's keys are used. What is not finite is looked for later.
void Model::norm_heads(const SoftmaxAttention& a, FloatSpan q, FloatSpan k) {
  if (a.query_norm) normalize(*a.query_norm, q, q, nullptr);
  if (a.key_norm && !k.empty()) normalize(*a.key_norm, k, k, nullptr);
}

void Model::turn_heads(const SoftmaxAttention& a, FloatSpan q, FloatSpan k) {
  const int of_queries = a.query_rope >= 0 ? a.query_rope : a.rope;
  if (of_queries >= 0) device_.rope(q, a.heads, *ropes_[static_cast<std::size_t>(of_queries)]);
  if (a.rope >= 0 && !k.empty()) device_.rope(k, a.kv_heads, *ropes_[static_cast<std::size_t>(a.rope)]);
}

void Model::mix(const SoftmaxAttention& a, FloatSpan x, FloatSpan out) {
  const FloatSpan q = room(branch_, a.query_width()), heads = room(normed_, a.query_width());
  const FloatSpan k = room(key_, a.key_width()), v = room(value_, a.key_width());
  const FloatSpan gate = a.gate.weight.there() ? room(extra_, a.gate.outputs) : FloatSpan();
  const bool own_cache = a.cache_of < 0;
  std::array<Product, 4> parts = {Product{&a.query, q}};
  std::size_t count = 1;
  if (own_cache) parts[count++] = {&a.key, k}, parts[count++] = {&a.value, v};
  if (!gate.empty()) parts[count++] = {&a.gate, gate};
  multiply(std::span(parts).first(count), x);
  observe("q", q);
  if (own_cache) observe("k", k), observe("v", v);
  const FloatSpan own_keys = own_cache ? k : FloatSpan();
  if (!a.norm_after_rope) norm_heads(a, q, own_keys);
  turn_heads(a, q, own_keys);
  if (a.norm_after_rope) norm_heads(a, q, own_keys);
  if (a.value_norm && own_cache) normalize(*a.value_norm, v, v, nullptr);
  observe("q_rope", q);
  if (own_cache) observe("k_rope", k);
  // Scores lose what is not finite; and pages never hold it, because others will use them.
  device_.check(q, kQueryMost, guard(Place::kQueries));
  const int cache = memory();
  if (own_cache) {
    device_.check(k, kQueryMost, guard(Place::kKeys));
    device_.check(v, kValueMost, guard(Place::kValues));
    device_.write_cache(cache, k, v);
  }
  device_.attend({q, heads, cache, a.heads, a.scale, a.window, a.softcap, vector(a.sinks), a.both_ways});
  observe("attn", heads);
  if (!gate.empty()) {
    const std::int64_t each = gate.width() / a.heads;  // values of a head, or one for it
    device_.gate(gate.as(rows_ * a.heads, each), heads.as(rows_ * a.heads, a.head_dim));
  }
  device_.check(heads, kMost, guard(Place::kAttentionOutput));
  multiply(a.output, heads, out);
}

void Model::convolve(const Convolution& convolution, bool silu, FloatSpan x, FloatSpan out) {
  device_.check(x, kValueMost, guard(Place::kConvolution));
  device_.convolve({memory(), vector(convolution.weight), vector(convolution.bias), silu, x, out});
  device_.check(out, kValueMost, guard(Place::kConvolution));
}

void Model::mix(const GatedDeltaNet& m, FloatSpan x, FloatSpan out) {
  const std::int64_t width = m.key_heads * m.key_dim;
  const FloatSpan in = room(heads_, m.channels()), mixed = room(turned_, m.channels()), z = room(extra_, m.inner());
  const FloatSpan beta = room(key_, m.beta.outputs), found = room(normed_, m.inner());
  const bool both = !m.decay.weight.there();  // in one: of each key head its betas, then its decays
  const FloatSpan decay = both ? beta : room(value_, m.decay.outputs);
  std::array<Product, 4> parts = {Product{&m.input, in}, {&m.gate, z}, {&m.beta, beta}};
  if (!both) parts[3] = {&m.decay, decay};
  multiply(std::span(parts).first(both ? 3 : 4), x);
  observe("conv_in", in);
  convolve(m.convolution, true, in, mixed);
  observe("conv", mixed);
  const std::int64_t group = both ? m.value_heads / m.key_heads : m.value_heads;
  RecurrenceCall call;
  call.layer = memory(), call.x = mixed, call.out = found;
  call.query = 0, call.key = width, call.value = 2 * width;
  call.tiled = m.tiled, call.corrects = call.unit = true;
  call.eps = m.eps, call.scale = static_cast<float>(1 / std::sqrt(m.key_dim));
  call.strength = {beta, 0, group, both ? 2 * group : group};
  call.step = {decay, both ? group : 0, group, both ? 2 * group : group};
  call.step_bias = vector(m.decay_bias), call.rate = vector(m.decay_rate);
  device_.recur(call);
  observe("recurrence", found);
  device_.check(found, kMost, guard(Place::kRecurrence));
  const FloatSpan heads = found.as(rows_ * m.value_heads, m.value_dim);
  normalize(m.norm, heads, heads, nullptr);
  device_.activate({}, z, found, found, guard(Place::kRecurrence));
  multiply(m.output, found, out);
}

void Model::mix(const ShortConvolution& m, FloatSpan x, FloatSpan out) {
  const FloatSpan before = room(extra_, m.channels), after = room(turned_, m.channels), in = room(heads_, m.channels);
  const Product parts[] = {{&m.before, before}, {&m.after, after}, {&m.input, in}};
  multiply(parts, x);
  device_.multiply(before, in);
  convolve(m.convolution, false, in, before);
  observe("conv", before);
  device_.multiply(after, before);
  device_.check(before, kMost, guard(Place::kConvolution));
  multiply(m.output, before, out);
}

void Model::mix(const Mamba2& m, FloatSpan x, FloatSpan out) {
  const FloatSpan in = room(heads_, m.channels()), mixed = room(turned_, m.channels()), z = room(extra_, m.inner());
  const FloatSpan step = room(key_, m.heads), found = room(normed_, m.inner());
  const Product parts[] = {{&m.input, in}, {&m.gate, z}, {&m.step, step}};
  multiply(parts, x);
  observe("conv_in", in);
  convolve(m.convolution, true, in, mixed);
  observe("conv", mixed);
  RecurrenceCall call;
  call.layer = memory(), call.x = mixed, call.out = found;
  call.value = 0, call.key = m.inner(), call.query = m.inner() + m.groups * m.state_dim;
  call.step = {step, 0, m.heads, m.heads};
  call.step_bias = vector(m.step_bias), call.rate = vector(m.decay_rate), call.skip = vector(m.skip);
  device_.recur(call);
  observe("recurrence", found);
  device_.check(found, kMost, guard(Place::kRecurrence));
  device_.activate({}, z, found, found, guard(Place::kRecurrence));
  const FloatSpan groups = found.as(rows_ * m.groups, m.inner() / m.groups);
  device_.rms_norm(groups, vector(m.norm.weight).as(m.groups, m.inner() / m.groups), m.norm.eps, groups, nullptr);
  multiply(m.output, found, out);
}

/// Queries of each head over latents: the plain part by the head's key_up, the turning part behind it.
void Model::mix(const LatentAttention& a, FloatSpan x, FloatSpan out) {
  const std::int64_t of_heads = rows_ * a.heads, each = a.plain + a.turning;
  const auto heads = [&](const FloatBuffer& buffer, std::int64_t width) { return buffer.span().as(of_heads, width); };
  const FloatSpan latent = room(value_, a.key_dim()), key = room(key_, a.key_dim());
  multiply(a.latent, x, key);
  const FloatSpan projected = heads(heads_, each);
  if (a.query_down.weight.there()) {
    const FloatSpan down = room(turned_, a.query_down.outputs);
    multiply(a.query_down, x, down);
    normalize(a.query_norm, down, down, nullptr);
    multiply(a.query, down, projected.as(rows_, a.heads * each));
  } else {
    multiply(a.query, x, projected.as(rows_, a.heads * each));
  }
  observe("q", projected.as(rows_, a.heads * each));
  observe("kv", key);
  const RopeTable& rope = *ropes_[static_cast<std::size_t>(a.rope)];
  const FloatSpan query = heads(branch_, a.key_dim()), plain = heads(turned_, a.plain);
  device_.copy_columns(projected, 0, a.plain, plain, 0);
  const FloatSpan lifted = normed_.span().as(of_heads, a.latent_dim);
  device_.linear_heads(*weight(a.key_up.weight), plain, lifted);
  device_.copy_columns(lifted, 0, a.latent_dim, query, 0);
  const FloatSpan turning = heads(turned_, a.turning);
  device_.copy_columns(projected, a.plain, a.turning, turning, 0);
  device_.rope(turning.as(rows_, a.heads * a.turning), a.heads, rope);
  device_.copy_columns(turning, 0, a.turning, query, a.latent_dim);
  // The key: the latent, normalised, and the part that turns. The value is the latent alone.
  const FloatSpan part = room(heads_, a.latent_dim), turned_key = room(turned_, a.turning);
  device_.copy_columns(key, 0, a.latent_dim, part, 0);
  device_.copy_columns(key, a.latent_dim, a.turning, turned_key, 0);
  normalize(a.latent_norm, part, part, nullptr);
  device_.rope(turned_key, 1, rope);
  device_.copy_columns(part, 0, a.latent_dim, key, 0);
  device_.copy_columns(turned_key, 0, a.turning, key, a.latent_dim);
  device_.clear(latent);
  device_.copy_columns(part, 0, a.latent_dim, latent, 0);
  const FloatSpan all_queries = query.as(rows_, a.heads * a.key_dim());
  device_.check(all_queries, kQueryMost, guard(Place::kQueries));
  device_.check(key, kQueryMost, guard(Place::kKeys));
  device_.check(latent, kValueMost, guard(Place::kValues));
  const int cache = memory();
  device_.write_cache(cache, key, latent);
  const FloatSpan found = room(normed_, a.heads * a.key_dim());
  device_.attend({all_queries, found, cache, a.heads, a.scale, 0, 0, {}, false});
  const FloatSpan latents = heads(heads_, a.latent_dim), values = heads(turned_, a.value_dim);
  device_.copy_columns(found.as(of_heads, a.key_dim()), 0, a.latent_dim, latents, 0);
  device_.linear_heads(*weight(a.value_up.weight), latents, values);
  const FloatSpan joined = values.as(rows_, a.heads * a.value_dim);
  observe("attn", joined);
  device_.check(joined, kMost, guard(Place::kAttentionOutput));
  multiply(a.output, joined, out);
}

/// Some rows at a time: what lies between its products takes more room than all else.
void Model::feed_forward(const Mlp& m, FloatSpan x, FloatSpan out) {
  const std::int64_t slices = (rows_ + kMlpRows - 1) / kMlpRows, width = m.up.outputs;
  for (std::int64_t i = 0; i < slices; ++i) {
    const std::int64_t first = rows_ * i / slices, n = rows_ * (i + 1) / slices - first;
    const FloatSpan gate = gate_.span().as(n, width), up = up_.span().as(n, width), in = x.part(first, n);
    if (m.activation.gated()) {
      const Product parts[] = {{&m.gate, gate}, {&m.up, up}};
      multiply(parts, in, RowSet::kAll, first);
    } else {
      const Product up_alone[] = {{&m.up, gate}};
      multiply(up_alone, in, RowSet::kAll, first);
    }
    device_.activate(m.activation, gate, up, gate, {Place::kInsideMlp, layer_, RowSet::kAll, first});
    const Product down[] = {{&m.down, out.part(first, n)}};
    multiply(down, gate, RowSet::kAll, first);
  }
}

void Model::feed_forward(const Moe& m, FloatSpan x, FloatSpan out) {
  const FloatSpan logits = room(router_, m.router.outputs);
  const FloatSpan normed = m.router_norm || m.input_norm ? room(extra_, graph_.dim) : FloatSpan();
  if (m.router_norm) normalize(*m.router_norm, x, normed, nullptr);
  multiply(m.router, m.router_norm ? normed : x, logits);
  if (m.router_scale != 1) device_.scale(logits, m.router_scale);
  observe("router", logits);
  device_.check(logits, kMost, guard(Place::kRouter));
  if (router_probe) {
    std::vector<float> host(logits.size());
    device_.download(logits, host);
    router_probe(prefix_ + "router", host);
    device_.upload(host, logits);
  }
  MoeCall call;
  call.routing = m.routing, call.activation = m.activation;
  call.expert_scale = vector(m.expert_scale);
  call.logits = logits, call.choice_bias = vector(m.choice_bias);
  call.gate = weight(m.gate.weight), call.up = weight(m.up.weight), call.down = weight(m.down.weight);
  call.gate_bias = vector(m.gate.bias), call.up_bias = vector(m.up.bias), call.down_bias = vector(m.down.bias);
  if (m.input_norm) normalize(*m.input_norm, x, normed, nullptr);
  call.x = m.input_norm ? normed : x, call.out = out, call.guard = guard(Place::kInsideExpert);
  call.inside_gate = gate_.span().as(rows_, m.up.outputs), call.inside_up = up_.span().as(rows_, m.up.outputs);
  call.picked = room(picked_, graph_.dim);
  call.results = expert_out_.span().as(rows_ * m.routing.active, graph_.dim);
  device_.moe(call);
  if (m.output_norm) normalize(*m.output_norm, out, out, nullptr);
  if (!m.shared) return;
  const FloatSpan shared = room(extra_, graph_.dim), in = m.shared_input_norm ? room(normed_, graph_.dim) : x;
  if (m.shared_input_norm) normalize(*m.shared_input_norm, x, in, nullptr);
  feed_forward(*m.shared, in, shared);
  if (m.shared_output_norm) normalize(*m.shared_output_norm, shared, shared, nullptr);
  if (m.shared_gate.weight.there()) {
    const FloatSpan gate = room(router_, 1);
    multiply(m.shared_gate, x, gate);
    device_.gate(gate, shared);
  }
  device_.add(shared, 1, out);
}

void Model::mix(const Block& block) {
  const FloatSpan stream = room(stream_, graph_.dim), normed = room(normed_, graph_.dim);
  if (block.mixer_norm) {
    const Guard input = guard(Place::kAttentionInput);
    normalize(*block.mixer_norm, stream, normed, &input);
    observe("attn_norm", normed);
  }
  const FloatSpan x = block.mixer_norm ? normed : stream;
  const FloatSpan out = room(branch_, graph_.dim);
  std::visit([&](const auto& mixer) { mix(mixer, x, out); }, block.mixer);
  if (block.mixer_post_norm) normalize(*block.mixer_post_norm, out, out, nullptr);
  observe("attn_out", out);
}

void Model::feed_forward(const Block& block, FloatSpan out) {
  const FloatSpan stream = room(stream_, graph_.dim), normed = room(normed_, graph_.dim);
  const std::optional<Norm>& norm = block.mlp_norm || !block.parallel ? block.mlp_norm : block.mixer_norm;
  if (norm) {
    const Guard input = guard(Place::kMlpInput);
    normalize(*norm, stream, normed, &input);
    observe("mlp_norm", normed);
  }
  std::visit([&](const auto& part) { feed_forward(part, norm ? normed : stream, out); }, block.feed_forward);
  if (block.mlp_post_norm) normalize(*block.mlp_post_norm, out, out, nullptr);
  observe("mlp", out);
}

void Model::compute(const Block& block) {
  const FloatSpan stream = room(stream_, graph_.dim), branch = room(branch_, graph_.dim);
  const FloatSpan beside = block.parallel ? room(beside_, graph_.dim) : branch;
  const bool has_mixer = !std::holds_alternative<std::monostate>(block.mixer);
  const bool has_feed_forward = !std::holds_alternative<std::monostate>(block.feed_forward);
  if (block.parallel) feed_forward(block, beside);
  if (has_mixer) {
    mix(block);
    device_.add(branch, block.mixer_scale, stream);
    if (block.mixer_stream_norm) normalize(*block.mixer_stream_norm, stream, stream, nullptr);
    observe("attn_residual", stream);
  }
  if (has_feed_forward) {
    if (!block.parallel) feed_forward(block, beside);
    device_.add(beside, block.mlp_scale, stream);
    if (block.mlp_stream_norm) normalize(*block.mlp_stream_norm, stream, stream, nullptr);
  }
  if (block.layer_input) add_layer_input(*block.layer_input, stream);
  if (block.output_scale != 1) device_.scale(stream, block.output_scale);
  observe("output", stream);
}

/// The states of some rows behind the last norm.
void Model::finish(RowSet rows, std::int64_t count, FloatSpan normed) {
  const FloatSpan selected = selected_.span().as(count, graph_.dim);
  device_.select(room(stream_, graph_.dim), rows, graph_.final_norm ? selected : normed);
  const Guard last{Place::kLastNorm, layer_, rows, 0};
  if (graph_.final_norm)
    normalize(*graph_.final_norm, selected, normed, &last);
  else
    device_.check(normed, kMost, last);
}

void Model::walk(std::int64_t rows, std::int64_t logit_rows, std::int64_t state_rows) {
  rows_ = rows, layer_ = 0;
  prefix_.clear();
  embed();
  for (const Block& block : graph_.blocks) {
    if (observer_) prefix_ = fmt::format("layer_{:02}.", layer_);
    compute(block);
    ++layer_;
  }
  prefix_.clear();
  if (state_rows > 0) {
    const FloatSpan states = branch_.span().as(state_rows, graph_.dim);
    finish(RowSet::kStates, state_rows, states);
    device_.give_states(states);
  }
  if (logit_rows > 0) {
    const FloatSpan normed = normed_.span().as(logit_rows, graph_.dim);
    finish(RowSet::kLogits, logit_rows, normed);
    observe("final_norm", normed);
    const FloatSpan logits = logits_.span().as(logit_rows, graph_.vocab);
    const Product head[] = {{&graph_.head, logits}};
    multiply(head, normed, RowSet::kLogits);
    if (graph_.logit_scale != 1) device_.scale(logits, graph_.logit_scale);
    if (graph_.logit_cap > 0) device_.soft_cap(logits, graph_.logit_cap);
    observe("logits", logits);
    device_.give_logits(logits);
  }
}

Status Model::rehearse(const StepSizes& sizes, Cache& cache) {
  observer_ = nullptr;
  if (!device_.begin_rehearsal(sizes, cache)) return {};
  walk(sizes.rows, sizes.logit_rows, sizes.state_rows);
  return device_.end_rehearsal();
}

Result<StepResult> Model::forward(const StepPlan& plan, Cache& cache, const Observer* observer) {
  LLORCH_ASSERT(!plan.rows.empty() && plan.rows.size() <= static_cast<std::size_t>(rows_max_),
                "rows of a step outside 1..rows_max");
  LLORCH_ASSERT(static_cast<std::int64_t>(plan.logit_rows.size()) <= logit_rows_max_ || !graph_.head.weight.there(),
                "rows with logits beyond logit_rows_max");
  if (!plan.logit_rows.empty() && !graph_.head.weight.there())
    return fail(ErrorCode::kInvalidRequest, "this model gives embeddings and no text");
  observer_ = observer;
  device_.begin(plan, cache);
  for (bool walks = observer || router_probe || !device_.replay(this); walks; walks = device_.repeat())
    walk(static_cast<std::int64_t>(plan.rows.size()), static_cast<std::int64_t>(plan.logit_rows.size()),
         static_cast<std::int64_t>(plan.state_rows.size()));
  LLORCH_TRY(StepResult result, device_.finish());
  LLORCH_OK(source_.unchanged(embedding_bytes_));
  result.layers = static_cast<int>(graph_.blocks.size());
  return result;
}

}  // namespace llorch
