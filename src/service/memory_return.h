// What a busy minute took goes back to the machine.
//
// Glibc raises the size from which a block gets pages of its own to that of the largest block that was freed, 32 MB at
// most: bodies of megabytes then lie between small blocks and stay. Every thread that allocates beside others adds an
// arena, and each keeps what it had. And what is free between blocks in use stays in any case, until somebody asks.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

namespace llorch::service {

/// Bounds what the allocator keeps; and a thread, for as long as this lives, that gives back what is free when the
/// process has become quiet after work: then nobody waits for a block meanwhile.
class MemoryReturn {
 public:
  /// `look`: how often. `returned`: told on that thread, each time.
  explicit MemoryReturn(std::chrono::milliseconds look = std::chrono::seconds(5), std::function<void()> returned = {});

 private:
  std::jthread thread_;
};

}  // namespace llorch::service
