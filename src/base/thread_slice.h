// How soon a thread runs once it has something to do, on a processor that others use at the same time.
//
// Linux lets a thread run for a slice (about 3 ms) before another one of the same kind gets its turn, even where the
// one that runs has a lower priority. Whoever works for microseconds at a time asks for a short slice: it gets no more
// of the processor, but at once (Linux 6.12 and later; earlier ones know no slices, and nothing changes there).
#pragma once

#include <chrono>

namespace llorch {

/// Slices of the threads that everybody waits for, event loops; of those that compute, one operator at a time; of those
/// that work long.
inline constexpr std::chrono::microseconds kLoopSlice{200}, kComputeSlice{1000}, kLongWorkSlice{3000};

/// For the calling thread, which keeps its priority; threads that it starts inherit it. Where the system refuses, the
/// thread keeps what it has.
void ask_for_slice(std::chrono::microseconds slice);

}  // namespace llorch
