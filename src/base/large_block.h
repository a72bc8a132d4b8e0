// Memory of megabytes that is written at once, such as a long body or the text that was parsed out of it.
//
// The system gives memory page by page, when it is first touched: with pages of 4 KB that is half the time of copying
// 8 MB. Linux has pages of 2 MB as well, for whoever asks (madvise(2), MADV_HUGEPAGE).
#pragma once

#include <cstddef>

namespace llorch {

/// What of the block can be made of huge pages will be. Smaller blocks are left as they are.
void prefer_huge_pages(void* block, std::size_t bytes);

/// Besides takes the pages now, and gives way between them: whoever fills the block does it in one go. The bytes of the
/// block are undefined afterwards.
void prepare_large_block(void* block, std::size_t bytes);

}  // namespace llorch
