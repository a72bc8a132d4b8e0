// Operations of models as launches: what CudaDevice's spans mean to kernels.
#include <algorithm>
#include <limits>

#include "cuda/kernel/attention.h"
#include "cuda/kernel/convolution.h"
#include "cuda/kernel/low_rank.h"
#include "cuda/kernel/mixture.h"
#include "cuda/kernel/recurrence.h"
#include "cuda/kernel/rope.h"
#include "cuda/kernel/rows.h"
#include "device/cuda/cuda_device.h"
#include "device/cuda/cuda_rope.h"

namespace llorch {
namespace {

const CudaWeight& packed(const Weight& weight) { return static_cast<const CudaWeight&>(weight); }
std::int64_t count_of(FloatSpan x) { return static_cast<std::int64_t>(x.size()); }

}  // namespace

void CudaDevice::fill_rope(RopeTable& table) {
  auto& rope = static_cast<CudaRope&>(table);
  const RopeSpec& spec = rope.spec();
  const std::size_t count = rows_.size() * spec.frequencies.size();
  rope.cos_at = rope.cos.need<float>(context_, count);
  rope.sin_at = rope.sin.need<float>(context_, count);
  if (!rope.cos_at || !rope.sin_at) return;
  cuda::RopeAngles angles;
  angles.frequencies = rope.frequencies.as<double>();
  angles.half = static_cast<std::int64_t>(spec.frequencies.size());
  angles.magnitude = spec.magnitude, angles.growth = spec.growth;
  angles.growth_every = spec.growth_every, angles.growth_offset = spec.growth_offset;
  cuda::fill_rope(stream(), step_.on_device(), angles, rope.cos_at, rope.sin_at);
}

void CudaDevice::rope(FloatSpan x, int heads, const RopeTable& table) {
  const auto& rope = static_cast<const CudaRope&>(table);
  if (!rope.cos_at || !rope.sin_at) return;
  cuda::turn_heads(stream(), {at(x), rope.cos_at, rope.sin_at, x.rows(), heads, x.width() / heads,
                              rope.spec().rotated / 2, rope.spec().adjacent});
}

void CudaDevice::rms_norm(FloatSpan x, FloatSpan weight, float eps, FloatSpan out, const Guard* guard) {
  const std::int64_t n = weight.width();
  LLORCH_ASSERT(!guard || out.width() == n, "a guard looks at whole rows");
  cuda::rms_norm(stream(), {at(x), at(weight), nullptr, count_of(x) / n, n, weight.rows(), eps, at(out),
                            guard ? mark(*guard) : cuda::FaultMark{}});
}

void CudaDevice::layer_norm(FloatSpan x, FloatSpan weight, FloatSpan bias, float eps, FloatSpan out,
                            const Guard* guard) {
  const std::int64_t n = count_of(weight);
  LLORCH_ASSERT(!guard || out.width() == n, "a guard looks at whole rows");
  cuda::layer_norm(stream(), {at(x), at(weight), at(bias), count_of(x) / n, n, 1, eps, at(out),
                              guard ? mark(*guard) : cuda::FaultMark{}});
}

void CudaDevice::check(FloatSpan x, float limit, const Guard& guard) {
  cuda::check_rows(stream(), at(x), x.rows(), x.width(), limit, mark(guard));
}

/// Neighbours in the list share the converted rows where their types allow it.
void CudaDevice::linear(std::span<const LinearPart> parts, FloatSpan x) {
  if (x.rows() == 0) return;
  void* room = activations_.need<std::byte>(context_, cuda::activation_bytes(x.rows(), x.width()));
  if (!room) return;
  products_.clear();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const cuda::Matrix& matrix = packed(*parts[i].weight).matrix;
    if (products_.empty()) cuda::convert_rows(stream(), matrix.type, at(x), x.width(), x.rows(), matrix.columns, room);
    products_.push_back({&matrix, 0, at_or_null(parts[i].bias), at(parts[i].out), matrix.rows});
    if (i + 1 < parts.size() && cuda::share_rows(matrix.type, packed(*parts[i + 1].weight).matrix.type)) continue;
    cuda::multiply(stream(), products_, room, x.rows());
    products_.clear();
  }
}

void CudaDevice::linear_heads(const Weight& weight, FloatSpan x, FloatSpan out) {
  const cuda::Matrix& matrix = packed(weight).matrix;
  const std::int64_t parts = matrix.parts, rows = x.rows() / parts;
  if (rows == 0) return;
  void* room = activations_.need<std::byte>(context_, cuda::activation_bytes(rows, matrix.columns));
  if (!room) return;
  for (std::int64_t p = 0; p < parts; ++p) {
    cuda::convert_rows(stream(), matrix.type, at(x) + p * matrix.columns, parts * matrix.columns, rows, matrix.columns,
                       room);
    const cuda::Product product{&matrix, p, nullptr, at(out) + p * matrix.rows, parts * matrix.rows};
    cuda::multiply(stream(), {&product, 1}, room, rows);
  }
}

void CudaDevice::add_low_rank(std::span<const LowRankPart> parts, FloatSpan x, RowSet rows, std::int64_t first) {
  if (adapters_ == 0 || x.rows() == 0) return;
  for (const LowRankPart& part : parts)
    for (const LowRank& l : part.adapters) {
      if (l.adapter >= adapters_) continue;  // no sequence has it
      auto* inner = low_rank_.need<float>(context_, static_cast<std::size_t>(x.rows() * l.a.rows()));
      if (!inner) return;
      cuda::add_low_rank(stream(), step_.on_device(),
                         {at(x), at(l.a), at(l.b), at(part.out), inner, x.rows(), x.width(), l.a.rows(), l.b.width(),
                          l.scale, l.adapter, step_.set(rows), first});
    }
}

void CudaDevice::activate(const Activation& kind, FloatSpan gate, FloatSpan up, FloatSpan out, const Guard& guard) {
  cuda::activate(stream(),
                 {kind, at(gate), kind.gated() ? at(up) : nullptr, at(out), out.rows(), out.width(), mark(guard)});
}

void CudaDevice::copy_columns(FloatSpan x, std::int64_t from, std::int64_t count, FloatSpan out, std::int64_t to) {
  LLORCH_ASSERT(x.rows() == out.rows() && from + count <= x.width() && to + count <= out.width(), "columns disagree");
  cuda::copy_columns(stream(), at(x) + from, x.width(), x.rows(), count, at(out) + to, out.width());
}

void CudaDevice::clear(FloatSpan x) {
  if (!x.empty() && computes()) keep(context_->fill(at(x), 0, x.size() * sizeof(float)));
}
void CudaDevice::add(FloatSpan x, float scale, FloatSpan out) {
  cuda::add_values(stream(), at(x), scale, count_of(x), at(out));
}
void CudaDevice::scale(FloatSpan x, float scale) { cuda::scale_values(stream(), at(x), scale, count_of(x)); }
void CudaDevice::gate(FloatSpan gate, FloatSpan x) {
  cuda::gate_values(stream(), at(gate), gate.width() == 1, x.rows(), x.width(), at(x));
}
void CudaDevice::soft_cap(FloatSpan x, float cap) { cuda::soft_cap_values(stream(), at(x), cap, count_of(x)); }
void CudaDevice::multiply(FloatSpan x, FloatSpan out) { cuda::multiply_values(stream(), at(x), count_of(x), at(out)); }

void CudaDevice::moe(const MoeCall& call) {
  const auto choices = static_cast<std::size_t>(call.x.rows() * call.routing.active);
  auto* chosen = chosen_.need<std::int32_t>(context_, choices);
  auto* weights = chosen_weights_.need<float>(context_, choices);
  if (!chosen || !weights) return;
  cuda::MixCall mix;
  mix.route = {call.routing,
               at(call.logits),
               call.x.rows(),
               call.logits.width(),
               at_or_null(call.choice_bias),
               at_or_null(call.expert_scale),
               chosen,
               weights};
  if (call.gate) mix.gate = packed(*call.gate).matrix;
  mix.up = packed(*call.up).matrix, mix.down = packed(*call.down).matrix;
  mix.gate_bias = at_or_null(call.gate_bias), mix.up_bias = at_or_null(call.up_bias),
  mix.down_bias = at_or_null(call.down_bias);
  mix.activation = call.activation;
  mix.x = at(call.x), mix.out = at(call.out), mix.mark = mark(call.guard);
  mix.room = mixture_.need<std::byte>(context_, cuda::mixture_bytes(mix));
  if (!mix.room) return;
  cuda::mix(stream(), mix);
}

void CudaDevice::write_cache(int layer, FloatSpan key, FloatSpan value) {
  cuda::write_cache(stream(), step_.on_device(), cache().layer(layer), at(key), at(value));
}

void CudaDevice::attend(const AttentionCall& c) {
  const cuda::Step& step = step_.on_device();
  const cuda::KvLayer& layer = cache().layer(c.layer);
  cuda::AttendCall call{at(c.query), at(c.out),           c.heads,    c.scale, c.window,
                        c.softcap,   at_or_null(c.sinks), c.both_ways};
  const auto partials = rehearsing_ ? &cuda::attend_partials_most : &cuda::attend_partials;
  if (const std::size_t floats = partials(step, layer, c.heads); floats > 0) {
    call.partials = partials_.need<float>(context_, floats);
    if (!call.partials) return;
  }
  cuda::attend(stream(), step, layer, call);
}

void CudaDevice::convolve(const ConvolutionCall& c) {
  const SlotLayer& layer = cache().slot_layer(c.layer);
  const CudaCache::Slots& slots = cache().slots(c.layer);
  cuda::convolve(stream(), step_.on_device(),
                 {at(c.x), at(c.weight), at_or_null(c.bias), at(c.out), slots.inputs, slots.input_checkpoints,
                  layer.channels, layer.taps, layer.kept(), c.silu});
}

void CudaDevice::recur(const RecurrenceCall& c) {
  const SlotLayer& l = cache().slot_layer(c.layer);
  const CudaCache::Slots& slots = cache().slots(c.layer);
  cuda::RecurCall out;
  const auto values = [&](const HeadColumns& of) {
    return cuda::HeadValues{at_or_null(of.x), of.x.width(), of.first, of.group, of.step};
  };
  out.x = at(c.x), out.x_width = c.x.width(), out.query = c.query, out.key = c.key, out.value = c.value;
  out.tiled = c.tiled, out.corrects = c.corrects, out.unit = c.unit, out.eps = c.eps, out.scale = c.scale;
  out.step = values(c.step), out.strength = values(c.strength);
  out.step_bias = at(c.step_bias), out.rate = at(c.rate), out.skip = at_or_null(c.skip), out.out = at(c.out);
  out.slots = slots.states, out.checkpoints = slots.state_checkpoints;
  out.slot_floats = slots.slot_floats, out.checkpoint_floats = slots.checkpoint_floats;
  out.key_heads = l.key_heads, out.key_dim = l.key_dim;
  out.value_heads = l.value_heads, out.value_dim = l.value_dim;
  out.stride = static_cast<std::int32_t>(l.value_stride());
  cuda::recur(stream(), step_.on_device(), out);
}

void CudaDevice::select(FloatSpan x, RowSet rows, FloatSpan out) {
  LLORCH_ASSERT(rows != RowSet::kAll, "all rows are not selected");
  cuda::select_rows(stream(), at(x), x.width(), step_.set(rows), out.rows(), at(out));
}

}  // namespace llorch
