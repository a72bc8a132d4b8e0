// The fibers of one host thread, with their stacks. Stacks are mapped once, each above a page that cannot be touched,
// and begin at different offsets: else the top of all would compete for the same few lines of the cache.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "cuda/host/fiber.h"

namespace llorch::cuda::host {

class FiberPool {
 public:
  explicit FiberPool(Fiber::Entry entry) : entry_(entry) {}
  ~FiberPool();
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;

  /// A fiber that runs nothing.
  Fiber& take() {
    if (idle_.empty()) grow();
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    return *fiber;
  }
  void give_back(Fiber& fiber) { idle_.push_back(&fiber); }
  /// Whatever runs in any of them is forgotten, and all are idle.
  void abandon_all();

 private:
  void grow();

  struct Slot {
    std::span<std::byte> mapping, stack;
    std::unique_ptr<Fiber> fiber;
  };
  Fiber::Entry entry_;
  std::vector<Slot> slots_;
  std::vector<Fiber*> idle_;
};

}  // namespace llorch::cuda::host
