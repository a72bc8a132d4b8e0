#include "base/large_block.h"

#include <sys/mman.h>

#include <cstdint>

#include "base/thread_slice.h"

namespace llorch {
namespace {

constexpr std::size_t kHuge = std::size_t{2} << 20, kPage = 4096, kStep = 65'536;

}  // namespace

void prefer_huge_pages(void* block, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(block);
  const std::uintptr_t begin = (at + kHuge - 1) / kHuge * kHuge, end = (at + bytes) / kHuge * kHuge;
  if (begin < end) (void)madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

void prepare_large_block(void* block, std::size_t bytes) {
  if (bytes < kHuge) return;
  prefer_huge_pages(block, bytes);
  auto* const at = static_cast<volatile char*>(block);
  for (std::size_t i = 0; i < bytes; i += kPage) {
    at[i] = 0;
    if (i % kStep == 0) give_way();
  }
}

}  // namespace llorch
