// Programmer's errors: a broken invariant ends the process with file, line, message and backtrace, in what ships as
// well. Nothing that a file, a socket or a person supplies may reach an assertion: one preset is built without them,
// and its suites of hostile input must come out the same (S-56).
#pragma once

#ifndef LLORCH_ASSERTIONS
#define LLORCH_ASSERTIONS 1
#endif

namespace llorch {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line, const char* message) noexcept;
}

#if LLORCH_ASSERTIONS
#define LLORCH_ASSERT(condition, message) \
  (static_cast<bool>(condition) ? void() : ::llorch::assertion_failed(#condition, __FILE__, __LINE__, message))
#else
#define LLORCH_ASSERT(condition, message) ((void)sizeof(static_cast<bool>(condition)))
#endif
