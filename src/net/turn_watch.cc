#include "net/turn_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <optional>
#include <string_view>
#include <utility>

#include "net/handler_marks.h"

namespace llorch::net {
namespace {

using std::chrono::nanoseconds;

thread_local TurnWatch* watch = nullptr;

/// Shorter turns are not measured to their end: they take at most this, waiting for a processor included.
constexpr std::chrono::milliseconds kShort{1};

/// The second number of schedstat: nanoseconds that this thread was ready to run and did not.
std::optional<nanoseconds> waited_for_processor(const Descriptor& schedstat) {
  std::array<char, 96> text{};
  const ssize_t n = schedstat ? ::pread(schedstat.number(), text.data(), text.size(), 0) : -1;
  if (n <= 0) return std::nullopt;
  const std::string_view line(text.data(), static_cast<std::size_t>(n));
  const auto at = line.find(' ');
  std::int64_t ns = 0;
  if (at == line.npos || std::from_chars(line.data() + at + 1, line.data() + line.size(), ns).ec != std::errc{})
    return std::nullopt;
  return nanoseconds(ns);
}

nanoseconds computed() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return std::chrono::seconds(t.tv_sec) + nanoseconds(t.tv_nsec);
}

}  // namespace

void handler_begins() noexcept {
  if (watch) watch->handler_begins();
}

TurnWatch::TurnWatch() : schedstat_(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {
  if (!waited_for_processor(schedstat_)) schedstat_ = Descriptor();
  watch = this;
}

TurnWatch::~TurnWatch() { watch = nullptr; }

nanoseconds TurnWatch::uncounted(Clock::time_point now) const {
  if (const auto waited = waited_for_processor(schedstat_)) return *waited;
  return now.time_since_epoch() - computed();
}

void TurnWatch::handler_begins() {
  if (!std::exchange(armed_, false)) return;
  began_ = true;
  start_ = Clock::now();
  uncounted_ = uncounted(start_);
}

nanoseconds TurnWatch::turn() {
  if (!std::exchange(began_, false)) return nanoseconds(0);
  const auto now = Clock::now();
  const nanoseconds took = now - start_;
  if (took < kShort) return took;
  return std::clamp(took - (uncounted(now) - uncounted_), nanoseconds(0), took);
}

}  // namespace llorch::net
