#include "cuda/host/order.h"

#include <charconv>
#include <numeric>

namespace llorch::cuda::host {

std::optional<Order> Order::read(std::string_view text) {
  constexpr std::string_view kRandomPrefix = "random:";
  if (text.empty() || text == "forward") return Order{};
  if (text == "reverse") return Order{Kind::kReverse, 0};
  if (!text.starts_with(kRandomPrefix)) return std::nullopt;
  text.remove_prefix(kRandomPrefix.size());
  Order order{Kind::kRandom, 0};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), order.seed);
  if (problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return order;
}

std::uint64_t block_at(Order order, std::uint64_t step, std::uint64_t count) {
  if (order.kind == Order::Kind::kForward) return step;
  if (order.kind == Order::Kind::kReverse) return count - 1 - step;
  // A stride without a common factor visits each block once.
  std::uint64_t stride = mix64(order.seed) % count | 1;
  while (std::gcd(stride, count) != 1) ++stride;
  return (mix64(order.seed + 1) % count + step * (stride % count)) % count;
}

}  // namespace llorch::cuda::host
