// Limits of serving, with their reasons.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace llorch::limits {

/// Bodies up to here are read, rendered and tokenised in some milliseconds; longer ones go to threads of their own.
inline constexpr std::size_t kShortBodyBytes = 64u << 10;
/// Threads of either kind. Two, so that one request that takes seconds does not hold up the next.
inline constexpr int kPrepareThreads = 2;
/// Requests of either kind that have begun: principals take turns in slices, and each request that waits for its turn
/// holds its memory, up to some hundred megabytes for a body of 8 MB.
inline constexpr int kPrepareBegunMax = 6;
inline constexpr std::chrono::milliseconds kPrepareSlice{20};
/// Requests that wait for them; what a worker admits is far below.
inline constexpr std::size_t kPrepareQueueMax = 4096;
/// For everything before the engine where the client names no earlier deadline: a body of 8 MB takes some seconds.
inline constexpr std::chrono::seconds kPrepareTimeMax{60};
/// For reading a body, which takes a time linear in its size: the time above ends it, this is for what nobody foresaw.
inline constexpr std::uint64_t kReadUnitsMax = 16'000'000'000;
/// Answers above this are serialised on a background thread.
inline constexpr std::size_t kShortAnswerBytes = 64u << 10;
/// Answers remembered under an Idempotency-Key, in all.
inline constexpr std::size_t kIdempotencyBytesMax = 64u << 20;
inline constexpr std::size_t kIdempotencyKeyBytesMax = 256;
/// A part of the worker that has not answered for so long is reported by /health. A step of the engine computes a chunk
/// of a prompt, which takes a large model on a small machine a minute; a background thread only has to take a task.
inline constexpr std::chrono::seconds kPrepareStuckAfter{10}, kEngineStuckAfter{180};
/// How often the worker looks whether all that its device holds is still there (W-29).
inline constexpr std::chrono::seconds kResidencyInterval{60};
/// How long /health waits for an answer before it judges by what it knows.
inline constexpr std::chrono::milliseconds kHealthPatience{200};

}  // namespace llorch::limits
