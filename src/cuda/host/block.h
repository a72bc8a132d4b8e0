// The emulated multiprocessor: runs the blocks of a launch, one after another, each thread as a fiber.
//
// A fiber runs a thread until a barrier or a warp function, which switches straight to the next thread that can run:
// of the same warp while it has one, then of another. A thread that never waits needs no fiber of its own: the fiber
// that ran the one before it runs it, too. Fibers and their stacks are kept from block to block and launch to launch.
//
// A barrier is complete when all threads of its block (its mask) have come, all from the same line. What can never
// complete ends the launch: a thread that exits while others wait for it, a mask that leaves out its caller, nobody
// left to run. An error abandons all fibers of the block and becomes the text that run_grid() gives.
//
// Shared memory is poisoned before each block (poison.h), lies between two guards, which ASan watches and which are
// compared after each block, and asynchronous copies are done only when they are waited for.
//
// LLORCH_CUDA_THREADS host threads (default 1) take blocks side by side; each has a BlockRunner of its own.
#pragma once

#include <optional>
#include <string>

#include "cuda/host/kernel_call.h"
#include "cuda/host/order.h"

namespace llorch::cuda::host {

inline constexpr unsigned kBlockThreadsMax = 1024;

/// Runs all blocks. Gives what a GPU would refuse or what went wrong, or nothing.
std::optional<std::string> run_grid(const KernelCall& call, Order order);

}  // namespace llorch::cuda::host
