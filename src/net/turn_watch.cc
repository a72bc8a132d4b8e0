#include "net/turn_watch.h"

#include <fcntl.h>
#include <sys/resource.h>
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

TurnWatch::TurnWatch(Time time) : time_(time) {
  if (time == Time::kOwn) schedstat_ = Descriptor(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));
  if (!waited_for_processor(schedstat_)) schedstat_ = Descriptor();
  watch = this;
}

TurnWatch::~TurnWatch() { watch = nullptr; }

TurnWatch::Mark TurnWatch::mark() const {
  Mark m{Clock::now(), computed(), {}, 0};
  if (const auto waited = waited_for_processor(schedstat_)) m.waited = *waited;
  rusage use{};
  if (getrusage(RUSAGE_THREAD, &use) == 0) m.blocked = use.ru_nvcsw;
  return m;
}

void TurnWatch::handler_begins() {
  if (!std::exchange(armed_, false)) return;
  began_ = true;
  if (time_ == Time::kOwn)
    start_ = mark();
  else
    start_.time = Clock::now();
}

nanoseconds TurnWatch::turn() {
  if (!std::exchange(began_, false)) return nanoseconds(0);
  const nanoseconds wall = Clock::now() - start_.time;
  if (wall < kShort || time_ == Time::kWall) return wall;
  const Mark end = mark();
  // Who gave up the processor nowhere was held up by others alone: by threads, or by the host of a virtual machine.
  if (!schedstat_ || end.blocked == start_.blocked) return std::min(wall, end.computed - start_.computed);
  return std::clamp(wall - (end.waited - start_.waited), nanoseconds(0), wall);
}

}  // namespace llorch::net
