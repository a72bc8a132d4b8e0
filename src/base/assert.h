// Programmer's errors: a broken invariant ends the process with file, line, message and backtrace, in every build.
// Nothing that a file, a socket or a person supplies may reach an assertion.
#pragma once

namespace llorch {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line, const char* message) noexcept;
}

#define LLORCH_ASSERT(condition, message) \
  (static_cast<bool>(condition) ? void() : ::llorch::assertion_failed(#condition, __FILE__, __LINE__, message))
