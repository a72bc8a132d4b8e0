// What a running kernel sees of the emulated device: its thread, its block, and where it may wait. C++20.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "cuda/host/types.h"

namespace llorch::cuda::host {

struct ThreadView {
  uint3 index;
  unsigned lane, warp;
};
struct BlockView {
  uint3 index;
  dim3 threads, blocks;
};
// Of the fiber that this host thread runs now.
extern constinit thread_local ThreadView* this_thread;
extern constinit thread_local BlockView* this_block;

/// Ends the launch with this message, the kernel's name, block, thread and line. Nothing of the kernel runs after it.
[[noreturn]] void kernel_error(std::source_location where, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

void* shared_at(std::size_t offset, std::size_t bytes, std::size_t alignment, std::source_location where);
/// The end of the block's shared memory may not be passed by these bytes. Errors end the launch.
void check_shared(const void* at, std::size_t bytes, std::size_t alignment, std::source_location where);
/// These bytes must be aligned, in device or pinned memory, and written before.
void check_global(const void* at, std::size_t bytes, std::size_t alignment, std::source_location where);

/// Waits for all threads of the block; gives the sum of their values.
unsigned block_barrier(unsigned value, std::source_location where);

/// A warp function is a barrier over `mask`: each lane hands in a payload, and the last lane that arrives computes the
/// results of all, into their payloads. `combine` gets the 32 payloads, null for lanes that the mask leaves out.
using Payloads = void* const (&)[32];
void warp_collective(unsigned mask, const char* name, std::source_location where, void* payload,
                     void (*combine)(Payloads));

/// An asynchronous copy of this thread: done by copy_wait(), until when its target is poisoned. Bytes from
/// `source_bytes` up to `bytes` become zero.
void copy_begin(void* target, const void* source, unsigned bytes, unsigned source_bytes, std::source_location where);
void copy_commit();
/// Does the copies of all groups but the newest `groups`.
void copy_wait(unsigned groups);

}  // namespace llorch::cuda::host
