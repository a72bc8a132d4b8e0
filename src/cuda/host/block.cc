#include "cuda/host/block.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "base/assert.h"
#include "cuda/host/block_runner.h"
#include "cuda/host/kernel_name.h"
#include "cuda/host/poison.h"

namespace llorch::cuda::host {

constinit thread_local ThreadView* this_thread = nullptr;
constinit thread_local BlockView* this_block = nullptr;

namespace {

std::optional<std::string> refused(const KernelCall& call) {
  const auto [x, y, z] = call.block;
  const std::uint64_t threads = std::uint64_t{x} * y * z;
  if (threads == 0 || threads > kBlockThreadsMax || z > 64) return fmt::format("a block of {} x {} x {} threads", x, y, z);
  const auto& grid = call.grid;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return fmt::format("a grid of {} x {} x {} blocks", grid.x, grid.y, grid.z);
  if (call.shared_bytes > kSharedBytesMax) return fmt::format("{} bytes of shared memory for a block, at most {}", call.shared_bytes, kSharedBytesMax);
  return std::nullopt;
}

unsigned host_threads() {
  unsigned count = 1;
  if (const char* text = std::getenv("LLORCH_CUDA_THREADS")) {
    const std::string_view view = text;
    std::from_chars(view.data(), view.data() + view.size(), count);
  }
  return std::clamp(count, 1u, 64u);
}

BlockRunner& runner_of_this_thread() {
  static thread_local BlockRunner runner;
  return runner;
}

/// Blocks of one launch, taken by several host threads.
class GridRun {
 public:
  GridRun(const KernelCall& call, Order order) : call_(call), order_(order), blocks_(std::uint64_t{call.grid.x} * call.grid.y * call.grid.z) {}

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
      for (unsigned i = 1; i < std::min<std::uint64_t>(threads, blocks_); ++i) others.emplace_back([this] { take_blocks(); });
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
  if (auto problem = refused(call)) return fmt::format("{}: the launch is refused: {}", kernel_name(call.kernel), *problem);
  auto problem = GridRun(call, order).run(host_threads());
  if (problem) return fmt::format("{}: {}", kernel_name(call.kernel), *problem);
  return std::nullopt;
}

void kernel_error(std::source_location where, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  BlockRunner::running().fail(where, text);
}

void* shared_at(std::size_t offset, std::size_t bytes, std::size_t alignment, std::source_location where) {
  std::byte* at = BlockRunner::running().shared().data() + offset;
  check_shared(at, bytes, alignment, where);
  return at;
}

void check_shared(const void* at, std::size_t bytes, std::size_t alignment, std::source_location where) {
  const SharedMemory& shared = BlockRunner::running().shared();
  const auto offset = static_cast<const std::byte*>(at) - shared.data();
  if (!shared.contains(at, bytes)) kernel_error(where, "shared memory from byte %td on, %zu bytes, where the block has %zu", offset, bytes, shared.bytes());
  if (static_cast<std::size_t>(offset) % alignment != 0) kernel_error(where, "shared memory at byte %td, which is no multiple of %zu", offset, alignment);
}

unsigned block_barrier(unsigned value, std::source_location where) { return BlockRunner::running().barrier(value, where); }

void warp_collective(unsigned mask, const char* name, std::source_location where, void* payload, void (*combine)(Payloads)) {
  BlockRunner::running().collective({mask, name, where, payload}, combine);
}

void copy_begin(void* target, const void* source, unsigned bytes, unsigned source_bytes, std::source_location where) {
  if (source_bytes > bytes) kernel_error(where, "an asynchronous copy of %u bytes from %u", bytes, source_bytes);
  check_shared(target, bytes, bytes, where);
  if (source_bytes > 0) check_global(source, source_bytes, bytes, where);
  poison(target, bytes);
  BlockRunner::running().copies().begin({target, source, bytes, source_bytes});
}
void copy_commit() { BlockRunner::running().copies().commit(); }
void copy_wait(unsigned groups) { BlockRunner::running().copies().wait(groups); }

}  // namespace llorch::cuda::host
