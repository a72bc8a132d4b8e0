#include "cuda/host/fiber_pool.h"

#include <sys/mman.h>

#include "base/assert.h"

#ifdef LLORCH_ASAN
// Frames that outlive their function are looked for at a price that switches pay threefold.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }
#endif

namespace llorch::cuda::host {
namespace {

constexpr std::size_t kStackBytes = std::size_t{kAsan ? 256 : 128} * 1024;  // under ASan frames grow by their red zones
constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kColours = 61, kColourBytes = 192;  // the offsets of stacks: 11 KB at most

}  // namespace

void FiberPool::grow() {
  void* mapping =
      mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  LLORCH_ASSERT(mapping != MAP_FAILED && mprotect(mapping, kPageBytes, PROT_NONE) == 0,
                "no memory for the stack of a fiber");
  const std::span all(static_cast<std::byte*>(mapping), kStackBytes);
  const std::size_t offset = slots_.size() % kColours * kColourBytes;
  slots_.push_back({all, all.subspan(kPageBytes, kStackBytes - kPageBytes - offset), std::make_unique<Fiber>()});
  slots_.back().fiber->start(slots_.back().stack, entry_);
  idle_.push_back(slots_.back().fiber.get());
}

void FiberPool::abandon_all() {
  idle_.clear();
  for (auto slot = slots_.rbegin(); slot != slots_.rend(); ++slot) {
    slot->fiber->start(slot->stack, entry_);
    idle_.push_back(slot->fiber.get());
  }
}

FiberPool::~FiberPool() {
  abandon_all();  // and no poison of ASan is left on memory that is given back
  for (auto& slot : slots_) munmap(slot.mapping.data(), slot.mapping.size());
}

}  // namespace llorch::cuda::host
