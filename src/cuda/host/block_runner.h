// Runs one block after another on one host thread: see block.h for the rules.
#pragma once

#include <optional>
#include <source_location>
#include <string>
#include <vector>

#include "cuda/host/copy_queue.h"
#include "cuda/host/fiber_pool.h"
#include "cuda/host/kernel_call.h"
#include "cuda/host/order.h"
#include "cuda/host/shared_memory.h"
#include "cuda/host/thread.h"

namespace llorch::cuda::host {

class BlockRunner {
 public:
  /// A warp function that a lane has come to.
  struct WarpCall {
    unsigned mask;
    const char* name;
    std::source_location where;
    void* payload;
  };

  BlockRunner();
  /// For the blocks of this launch, which outlives them.
  void prepare(const KernelCall& call, Order order);
  /// Runs a block, x first. Gives what went wrong, or nothing.
  std::optional<std::string> run(std::uint64_t block);

  /// The runner whose kernel runs on this host thread.
  static BlockRunner& running() { return *running_; }

  // Called by kernels.
  unsigned barrier(unsigned value, std::source_location where);
  void collective(const WarpCall& call, void (*combine)(Payloads));
  /// Ends the launch. Nothing on the stack of the caller is destroyed: it may hold nothing that owns memory.
  [[noreturn]] void fail(std::source_location where, std::string text);
  [[nodiscard]] const SharedMemory& shared() const { return shared_; }
  [[nodiscard]] CopyQueue& copies() { return self().copies; }

 private:
  enum class State { kRuns, kAtBarrier, kInWarpCall, kExited };
  struct Thread : ThreadView {
    Fiber* fiber = nullptr;  // null before it starts
    State state = State::kRuns;
    WarpCall call{};
    CopyQueue copies;
  };
  struct Warp {
    unsigned present = 0, ready = 0, exited = 0;
    unsigned in_call = 0;
  };

  static Thread& self() { return *static_cast<Thread*>(this_thread); }
  static void run_threads(Fiber& fiber);
  void reset_block(std::uint64_t block);
  /// Takes the next thread that can run; null when there is none.
  Thread* next();
  /// Runs others until this thread can go on.
  void pause();
  /// The thread on this fiber has ended. Returns when the fiber is to run another from its start.
  void exit_thread(Fiber& fiber);
  void leave_block(Fiber& fiber);
  void check_exit(const Thread& thread);
  void check_call(const WarpCall& call, const Warp& warp);
  void release_warp(unsigned warp, unsigned mask);
  [[noreturn]] void report_deadlock();
  [[nodiscard]] std::string describe(const Thread& thread) const;
  [[nodiscard]] std::string describe_waiting() const;

  static constinit thread_local BlockRunner* running_;

  const KernelCall* call_ = nullptr;
  Chooser chooser_{Order{}};
  BlockView view_{};
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::uint32_t ready_warps_ = 0;
  unsigned count_ = 0, warp_ = 0;  // threads of the block; the warp that runs
  unsigned at_barrier_ = 0, exited_ = 0;
  std::source_location barrier_where_;
  unsigned barrier_sum_ = 0, barrier_result_ = 0;
  std::optional<std::string> problem_;
  SharedMemory shared_;
  FiberPool fibers_{&BlockRunner::run_threads};
  Fiber host_;
};

}  // namespace llorch::cuda::host
