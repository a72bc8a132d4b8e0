#include "cuda/host/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "cuda/host/block_runner.h"
#include "cuda/host/kernel_name.h"
#include "cuda/host/settings.h"

namespace llorch::cuda::host {

namespace {

std::optional<std::string> refused(const KernelCall& call) {
  const auto [x, y, z] = call.block;
  const std::uint64_t threads = std::uint64_t{x} * y * z;
  if (threads == 0 || threads > kBlockThreadsMax || z > 64)
    return fmt::format("a block of {} x {} x {} threads", x, y, z);
  const auto& grid = call.grid;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return fmt::format("a grid of {} x {} x {} blocks", grid.x, grid.y, grid.z);
  const std::size_t shared_most = shared_bytes_of_environment().value_or(0);  // nonsense: select_device() says so
  if (call.shared_bytes > shared_most)
    return fmt::format("{} bytes of shared memory for a block, at most {}", call.shared_bytes, shared_most);
  return std::nullopt;
}

BlockRunner& runner_of_this_thread() {
  static thread_local BlockRunner runner;
  return runner;
}

/// Blocks of one launch, taken by several host threads.
class GridRun {
 public:
  GridRun(const KernelCall& call, Order order)
      : call_(call), order_(order), blocks_(std::uint64_t{call.grid.x} * call.grid.y * call.grid.z) {}

  void take_blocks() {
    BlockRunner& runner = runner_of_this_thread();
    runner.prepare(call_, order_);
    for (std::uint64_t step; !failed_ && (step = next_++) < blocks_;) {
      auto problem = runner.run(block_at(order_, step, blocks_));
      if (!problem) continue;
      failed_ = true;
      const std::lock_guard lock(mutex_);
      if (!problem_ || step < problem_step_) problem_ = std::move(problem), problem_step_ = step;
    }
  }
  std::optional<std::string> run(unsigned threads) {
    {
      std::vector<std::jthread> others;
      for (unsigned i = 1; i < std::min<std::uint64_t>(threads, blocks_); ++i)
        others.emplace_back([this] { take_blocks(); });
      take_blocks();
    }
    return problem_;
  }

 private:
  const KernelCall& call_;
  Order order_;
  std::uint64_t blocks_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::optional<std::string> problem_;
  std::uint64_t problem_step_ = 0;
};

}  // namespace

std::optional<std::string> run_grid(const KernelCall& call, Order order) {
  if (auto problem = refused(call))
    return fmt::format("{}: the launch is refused: {}", kernel_name(call.kernel), *problem);
  auto problem = GridRun(call, order).run(threads_of_environment().value_or(1));
  if (problem) return fmt::format("{}: {}", kernel_name(call.kernel), *problem);
  return std::nullopt;
}

}  // namespace llorch::cuda::host
