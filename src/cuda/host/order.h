// In which order the emulated device does what has no order: threads, blocks, streams, nodes of graphs. A program must
// give the same bits under all of them.
//
// LLORCH_CUDA_ORDER = forward (default) | reverse | random:SEED
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/random.h"

namespace llorch::cuda::host {

struct Order {
  enum class Kind { kForward, kReverse, kRandom };
  Kind kind = Kind::kForward;
  std::uint64_t seed = 0;

  /// What the text says, forward where it is empty; nothing for anything else.
  static std::optional<Order> read(std::string_view text);
  /// The same; forward for anything else.
  static Order parse(std::string_view text) { return read(text).value_or(Order{}); }
};

/// Choices under an order. The same seed gives the same choices.
class Chooser {
 public:
  explicit Chooser(Order order) : kind_(order.kind), state_(mix64(order.seed) | 1) {}

  [[nodiscard]] bool random() const { return kind_ == Order::Kind::kRandom; }

  /// The number of a bit that is set; mask is not 0.
  unsigned bit(std::uint32_t mask) {
    if (kind_ == Order::Kind::kForward) return static_cast<unsigned>(std::countr_zero(mask));
    if (kind_ == Order::Kind::kReverse) return (31u - static_cast<unsigned>(std::countl_zero(mask))) & 31;
    const unsigned turn = draw() & 31;
    return (static_cast<unsigned>(std::countr_zero(std::rotr(mask, static_cast<int>(turn)))) + turn) & 31;
  }
  /// One of 0 .. count - 1.
  std::uint64_t index(std::uint64_t count) {
    if (kind_ == Order::Kind::kForward) return 0;
    return kind_ == Order::Kind::kReverse ? count - 1 : draw() % count;
  }
  std::uint32_t draw() {  // xorshift64*
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<std::uint32_t>((state_ * 0x2545f4914f6cdd1dull) >> 32);
  }

 private:
  Order::Kind kind_;
  std::uint64_t state_;
};

/// The `step`-th of `count` blocks: each once.
[[nodiscard]] std::uint64_t block_at(Order order, std::uint64_t step, std::uint64_t count);

}  // namespace llorch::cuda::host
