// Linear recurrences: block after block of 64 positions; in each first the keys of its rows, then head by head.
#include <algorithm>
#include <cstring>

#include "device/cpu/cpu_cache.h"
#include "device/cpu/cpu_device.h"

namespace llorch {
namespace {

constexpr int kBlock = SlotLayer::kBlock;

std::int64_t key_head_of(const RecurrenceCall& c, const SlotLayer& l, std::int64_t head) {
  return c.tiled ? head % l.key_heads : head / (l.value_heads / l.key_heads);
}

}  // namespace

void CpuDevice::convolve_row(const ConvolutionCall& call, const float* const* x, float* out) const {
  k_.convolve(x, at(call.weight), call.bias.empty() ? nullptr : at(call.bias), static_cast<int>(call.weight.rows()),
              call.silu, call.weight.width(), out);
}

/// Of each row and head.
void CpuDevice::find_rates(const RecurrenceCall& c) {
  const auto heads = static_cast<std::int64_t>(c.rate.size()), count = static_cast<std::int64_t>(rows().size());
  for (std::vector<float>* v : {&log_decays_, &strengths_}) v->resize(static_cast<std::size_t>(count * heads));
  rates_.resize(static_cast<std::size_t>(2 * count * heads));
  pool().run(count, [&](std::int64_t r) {
    float* step = rates_.data() + 2 * r * heads;
    const auto gather = [&](const HeadColumns& of, float* to) {
      const float* from = at(of.x) + r * of.x.width() + of.first;
      for (std::int64_t h = 0; h < heads; ++h) to[h] = from[h / of.group * of.step + h % of.group];
    };
    gather(c.step, step);
    if (!c.strength.x.empty()) gather(c.strength, step + heads);
    k_.recurrence_rates(step, at(c.step_bias), at(c.rate), c.strength.x.empty() ? nullptr : step + heads, heads,
                        log_decays_.data() + r * heads, strengths_.data() + r * heads);
  });
}

void CpuDevice::save_state(const RecurrenceCall& c, const Sequence& s, std::int64_t head, std::int64_t border) const {
  const auto& kept = static_cast<const CpuCache&>(cache());
  const SlotLayer& l = kept.slot_layer(c.layer);
  for (const StepPlan::Save& save : saves(s))
    if (save.position == border)
      std::copy_n(kept.state(c.layer, s.slot, head), l.key_dim * l.value_stride(),
                  kept.checkpoint(c.layer, save.checkpoint, head));
}

/// States stand where their sequences' first blocks begin.
void CpuDevice::begin_states(const RecurrenceCall& c) {
  const auto& kept = static_cast<const CpuCache&>(cache());
  const SlotLayer& l = kept.slot_layer(c.layer);
  const auto behind = [&](const Sequence& s) { return rows()[s.first].position - s.border >= kBlock; };
  const auto begins = [&](const Sequence& s) {
    return s.first < s.end && (rows()[s.first].position == 0 || s.restore >= 0 || behind(s));
  };
  if (std::ranges::none_of(sequences(), begins)) return;
  pool().run(static_cast<std::int64_t>(sequences().size()) * l.value_heads, [&](std::int64_t i) {
    const Sequence& s = sequences()[static_cast<std::size_t>(i / l.value_heads)];
    if (!begins(s)) return;
    const std::int64_t head = i % l.value_heads, size = l.key_dim * l.value_stride();
    float* state = kept.state(c.layer, s.slot, head);
    if (s.restore >= 0) {
      std::copy_n(kept.checkpoint(c.layer, s.restore, head), size, state);
    } else if (rows()[s.first].position == 0) {
      std::fill_n(state, size, 0.0f);
    } else {
      k_.fold_block(state, kept.keys(c.layer, s.slot, key_head_of(c, l, head)), kept.added(c.layer, s.slot, head),
                    kept.decays(c.layer, s.slot, head), l.key_dim, l.value_stride());
      save_state(c, s, head, s.border + kBlock);
    }
  });
}

void CpuDevice::keep_keys(const RecurrenceCall& c, const BlockRows& b, std::int64_t key_head) const {
  const auto& kept = static_cast<const CpuCache&>(cache());
  const SlotLayer& l = kept.slot_layer(c.layer);
  float* keys = kept.keys(c.layer, b.sequence->slot, key_head);
  for (int t = b.first; t < b.last; ++t) {
    float* x = at(c.x) + (b.row + t - b.first) * c.x.width() + key_head * l.key_dim;
    if (c.unit) {
      k_.unit_length(x + c.key, l.key_dim, c.eps, 1);
      k_.unit_length(x + c.query, l.key_dim, c.eps, c.scale);
    }
    for (int i = 0; i < l.key_dim; ++i) keys[i * kBlock + t] = x[c.key + i];
  }
}

void CpuDevice::recur_block(const RecurrenceCall& c, const BlockRows& b, std::int64_t head) const {
  const auto& kept = static_cast<const CpuCache&>(cache());
  const SlotLayer& l = kept.slot_layer(c.layer);
  const std::int32_t slot = b.sequence->slot;
  const std::int64_t key_head = key_head_of(c, l, head), rate = b.row * l.value_heads + head;
  const float* x = at(c.x) + b.row * c.x.width();
  float *state = kept.state(c.layer, slot, head), *added = kept.added(c.layer, slot, head),
        *decays = kept.decays(c.layer, slot, head);
  const float* keys = kept.keys(c.layer, slot, key_head);
  k_.recur({state,
            keys,
            added,
            decays,
            l.key_dim,
            l.value_dim,
            l.value_stride(),
            b.first,
            b.last,
            x + c.query + key_head * l.key_dim,
            x + c.value + head * l.value_dim,
            c.x.width(),
            c.x.width(),
            log_decays_.data() + rate,
            strengths_.data() + rate,
            l.value_heads,
            at(c.out) + b.row * c.out.width() + head * l.value_dim,
            c.out.width(),
            c.corrects,
            c.skip.empty() ? 0.0f : at(c.skip)[head]});
  if (!b.complete) return;
  k_.fold_block(state, keys, added, decays, l.key_dim, l.value_stride());
  save_state(c, *b.sequence, head, b.block + kBlock);
}

void CpuDevice::recur(const RecurrenceCall& c) {
  const SlotLayer& l = static_cast<const CpuCache&>(cache()).slot_layer(c.layer);
  find_rates(c);
  begin_states(c);
  for (std::int64_t number = 0;; ++number) {
    block_rows_.clear();
    for (const Sequence& s : sequences()) {
      if (s.first == s.end) continue;
      const std::int64_t from = rows()[s.first].position, count = static_cast<std::int64_t>(s.end - s.first);
      const std::int64_t block = from / kBlock * kBlock + number * kBlock;
      const std::int64_t first = std::max(from, block), last = std::min(from + count, block + kBlock);
      if (first >= last) continue;
      block_rows_.push_back({&s, static_cast<std::int64_t>(s.first) + first - from, block,
                             static_cast<int>(first - block), static_cast<int>(last - block),
                             last == block + kBlock && last <= from + count - s.drafts});
    }
    if (block_rows_.empty()) return;
    const auto parts = static_cast<std::int64_t>(block_rows_.size());
    pool().run(parts * l.key_heads, [&](std::int64_t i) {
      keep_keys(c, block_rows_[static_cast<std::size_t>(i / l.key_heads)], i % l.key_heads);
    });
    pool().run(parts * l.value_heads, [&](std::int64_t i) {
      recur_block(c, block_rows_[static_cast<std::size_t>(i / l.value_heads)], i % l.value_heads);
    });
  }
}

}  // namespace llorch
