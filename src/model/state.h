// What the mixer of a layer remembers of a sequence. The cache, the prediction of memory and what tools print are all
// made from these declarations.
#pragma once

#include <cstdint>
#include <variant>

#include "base/limits.h"

namespace llorch {

enum class KvPrecision { kF32, kF16, kQ8_0 };

/// Keys and values, in pages of limits::kKvPagePositions positions. Layers with one window share their page numbers;
/// with a window, only pages are kept that somebody can still see.
struct CacheLayer {
  int kv_heads = 0, head_dim = 0;
  int window = 0;  // 0: all positions
  bool operator==(const CacheLayer&) const = default;
};

/// A slot of fixed size. Of a convolution: its last inputs. Of a recurrence: the state (key_dim, value_dim) of each
/// value head at the last border (a position that is a multiple of limits::kKvPagePositions), and what each position
/// since then adds to it: a key, a value and a decay. So the sum of a position is made of the same numbers in the same
/// order however its sequence was cut into steps, and positions can be taken back.
struct SlotLayer {
  int channels = 0, taps = 0;  // of the convolution
  int key_heads = 0, key_dim = 0, value_heads = 0, value_dim = 0;

  static constexpr int kBlock = limits::kKvPagePositions;
  /// Inputs that a convolution keeps: those that it needs, and as many positions as may be taken back.
  [[nodiscard]] int kept() const { return taps > 0 ? taps - 1 + limits::kDraftsMax : 0; }
  [[nodiscard]] int tail() const { return taps > 0 ? taps - 1 : 0; }
  /// Values of a row in whole vectors.
  [[nodiscard]] std::int64_t value_stride() const { return std::int64_t{value_dim + 15} / 16 * 16; }
  [[nodiscard]] std::int64_t state_floats() const { return std::int64_t{value_heads} * key_dim * value_stride(); }
  /// Floats of one sequence.
  [[nodiscard]] std::int64_t floats() const {
    return state_floats() + std::int64_t{kBlock} * (std::int64_t{key_heads} * key_dim + value_heads * value_stride()) +
           std::int64_t{kBlock} * value_heads + std::int64_t{kept()} * channels;
  }
  /// Floats of a checkpoint: what is remembered at a border.
  [[nodiscard]] std::int64_t checkpoint_floats() const { return state_floats() + std::int64_t{tail()} * channels; }
  bool operator==(const SlotLayer&) const = default;
};

/// Of one mixer: nothing, pages, or a slot.
using Memory = std::variant<std::monostate, CacheLayer, SlotLayer>;

}  // namespace llorch
