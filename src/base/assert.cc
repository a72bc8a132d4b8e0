#include "base/assert.h"

#include <execinfo.h>

#include <cstdio>
#include <cstdlib>

namespace llorch {

void assertion_failed(const char* expression, const char* file, int line, const char* message) noexcept {
  std::fprintf(stderr, "%s:%d: assertion failed: %s (%s)\n", file, line, expression, message);
  void* frames[64];
  backtrace_symbols_fd(frames, backtrace(frames, 64), 2);
  std::abort();
}

}  // namespace llorch
