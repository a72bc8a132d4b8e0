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
/// What was stolen before it is known anew.
constexpr std::chrono::seconds kStolenAge{1};

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

/// The time of all processors that the host took away, since the machine's start. Absent where nobody counts it.
std::optional<std::chrono::milliseconds> stolen(const Descriptor& stat) {
  std::array<char, 256> text{};
  const ssize_t n = stat ? ::pread(stat.number(), text.data(), text.size(), 0) : -1;
  std::string_view rest(text.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  // "cpu", two blanks, then user, nice, system, idle, iowait, irq, softirq and steal, in ticks
  if (!rest.starts_with("cpu  ")) return std::nullopt;
  rest.remove_prefix(5);
  for (int before = 0; before < 7; ++before) rest.remove_prefix(std::min(rest.size(), rest.find(' ')) + 1);
  std::int64_t ticks = 0;
  if (std::from_chars(rest.data(), rest.data() + rest.size(), ticks).ec != std::errc{}) return std::nullopt;
  return std::chrono::milliseconds(ticks * 1000 / sysconf(_SC_CLK_TCK));
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

void operation_ends(const OperationName& operation) noexcept {
  if (watch) watch->operation_ends(operation.name);
}

TurnWatch::TurnWatch(Time time, nanoseconds slow_from) : time_(time), slow_from_(slow_from) {
  if (time == Time::kOwn) {
    schedstat_ = Descriptor(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC));
    stat_ = Descriptor(::open("/proc/stat", O_RDONLY | O_CLOEXEC));
  }
  if (!waited_for_processor(schedstat_)) schedstat_ = Descriptor();
  watch = this;
}

TurnWatch::~TurnWatch() { watch = nullptr; }

TurnWatch::Mark TurnWatch::mark() const {
  Mark m{Clock::now(), computed(), {}, 0, 0};
  if (const auto waited = waited_for_processor(schedstat_)) m.waited = *waited;
  rusage use{};
  if (getrusage(RUSAGE_THREAD, &use) == 0) m.blocked = use.ru_nvcsw, m.major_faults = use.ru_majflt;
  return m;
}

void TurnWatch::handler_begins() {
  if (!std::exchange(armed_, false)) return;
  began_ = true;
  turn_operation_ = operation_;
  if (time_ == Time::kWall) {
    start_.time = Clock::now();
    return;
  }
  if (const auto now = Clock::now(); now - stolen_at_ > kStolenAge) stolen_ = stolen(stat_), stolen_at_ = now;
  start_ = mark();
}

Turn TurnWatch::turn() {
  Turn t;
  if (!std::exchange(began_, false)) return t;
  t.operation = turn_operation_;
  t.took = t.wall = Clock::now() - start_.time;
  if (t.wall < kShort || time_ == Time::kWall) return t;
  const Mark end = mark();
  t.computed = end.computed - start_.computed, t.waited = end.waited - start_.waited;
  t.blocked = end.blocked - start_.blocked, t.major_faults = end.major_faults - start_.major_faults;
  // Who gave up the processor nowhere was held up by others alone: by threads, or by the host of a virtual machine.
  if (!schedstat_ || t.blocked == 0)
    t.took = std::min(t.wall, t.computed);
  else
    t.took = std::clamp(t.wall - t.waited, nanoseconds(0), t.wall);
  if (t.took > slow_from_ && stolen_)
    if (const auto now = stolen(stat_)) t.stolen = *now - *stolen_;
  return t;
}

}  // namespace llorch::net
