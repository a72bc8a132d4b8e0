#include "cuda/host/settings.h"

#include <charconv>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string_view>

namespace llorch::cuda::host {
namespace {

std::string_view text_of(const char* variable) {
  const char* text = std::getenv(variable);
  return text ? text : "";
}

/// All of the text, a number in least..most.
std::optional<std::uint64_t> number_in(std::string_view text, std::uint64_t least, std::uint64_t most) {
  std::uint64_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (problem != std::errc() || end != text.data() + text.size() || number < least || number > most)
    return std::nullopt;
  return number;
}

struct Limits {
  std::uint64_t least = 1, most = 0;
};
Result<std::uint64_t> number_of(const char* variable, std::uint64_t unset, Limits limits) {
  const std::string_view text = text_of(variable);
  if (text.empty()) return unset;
  if (const auto number = number_in(text, limits.least, limits.most)) return *number;
  return fail(ErrorCode::kInvalidRequest, "{} is '{}': a number from {} to {} is needed", variable, text, limits.least,
              limits.most);
}

}  // namespace

Result<Order> order_of_environment() {
  const std::string_view text = text_of("LLORCH_CUDA_ORDER");
  if (const auto order = Order::read(text)) return *order;
  return fail(ErrorCode::kInvalidRequest, "LLORCH_CUDA_ORDER is '{}': forward, reverse or random:SEED is needed", text);
}

Result<std::size_t> memory_bytes_of_environment() {
  return number_of("LLORCH_CUDA_MEMORY_BYTES", std::uint64_t{4} << 30,
                   {.most = std::numeric_limits<std::int64_t>::max()});
}

Result<unsigned> threads_of_environment() {
  LLORCH_TRY(const std::uint64_t count, number_of("LLORCH_CUDA_THREADS", 1, {.most = 64}));
  return static_cast<unsigned>(count);
}

Result<std::size_t> shared_bytes_of_environment() {
  constexpr std::uint64_t kAnyDevice = 48 << 10, kMost = 227 << 10;  // kMost: compute capabilities 9.0 and 10.0
  return number_of("LLORCH_CUDA_SHARED_BYTES", kMost, {kAnyDevice, kMost});
}

Result<Fault> fault_of_environment() {
  const std::string_view text = text_of("LLORCH_CUDA_FAULT");
  if (text.empty()) return Fault{};
  for (const auto& [prefix, kind] :
       {std::pair<std::string_view, Fault::Kind>{"lost:", Fault::Kind::kLost}, {"hang:", Fault::Kind::kHang}}) {
    if (!text.starts_with(prefix)) continue;
    if (const auto wait = number_in(text.substr(prefix.size()), 1, std::numeric_limits<std::uint64_t>::max()))
      return Fault{kind, *wait};
  }
  return fail(ErrorCode::kInvalidRequest, "LLORCH_CUDA_FAULT is '{}': lost:N or hang:N is needed, N from 1 on", text);
}

Status settings_problem() {
  LLORCH_TRY(const Order order, order_of_environment());
  LLORCH_TRY(const std::size_t bytes, memory_bytes_of_environment());
  LLORCH_TRY(const unsigned threads, threads_of_environment());
  LLORCH_TRY(const std::size_t shared, shared_bytes_of_environment());
  LLORCH_TRY(const Fault fault, fault_of_environment());
  (void)order, (void)bytes, (void)threads, (void)shared, (void)fault;
  return {};
}

}  // namespace llorch::cuda::host
