// How soon a thread runs once it has something to do, on a processor that others use at the same time.
//
// Linux lets a thread run for a slice (about 3 ms) before another one of the same kind gets its turn, even where the
// one that runs has a lower priority. Whoever works for microseconds at a time asks for a short slice: it gets no more
// of the processor, but at once (Linux 6.12 and later; earlier ones know no slices, and nothing changes there).
#pragma once

#include <chrono>

namespace llorch {

/// Slices of the threads that everybody waits for, event loops; of those that compute, one operator at a time; of those
/// that work long: when they give way they lose what is left of one, so it is short.
inline constexpr std::chrono::microseconds kLoopSlice{200}, kComputeSlice{1000}, kLongWorkSlice{400};

/// For the calling thread, which keeps its priority; threads that it starts inherit it. Where the system refuses, the
/// thread keeps what it has.
void ask_for_slice(std::chrono::microseconds slice);

/// The calling thread does long work from now on: it gets `nice`, and gives way (below).
void become_long_worker(int nice);

/// On a thread of long work: the others that wait for its processor run first, if it has run for some time. Elsewhere
/// nothing happens. Linux compares threads when one wakes or a tick comes (1 to 10 ms apart), and one that has had its
/// share loses this comparison even to a thread of low priority, which then stays until the tick. So long work has to
/// look by itself: whatever goes through megabytes calls this each few dozen microseconds (it costs as many
/// nanoseconds).
void give_way();

}  // namespace llorch
