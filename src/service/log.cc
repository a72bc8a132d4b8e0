#include "service/log.h"

#include <fmt/format.h>
#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <new>

#include "base/ids.h"
#include "base/terminal.h"
#include "security/auth.h"

namespace llorch::service {
namespace {

constexpr std::array<std::string_view, 7> kLevels{"trace", "debug", "info", "warn", "error", "fatal", "mute"};

struct Log {
  std::string component;
  bool pretty = false;
  Level least = Level::kInfo;
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::logger> sink;
  std::function<void(const std::string&)> line;  // instead of the sink
};
Log& instance() {
  static Log log;
  return log;
}

}  // namespace

std::string_view name(Level level) { return kLevels[static_cast<std::size_t>(level)]; }
std::vector<std::string> level_names() { return {kLevels.begin(), kLevels.end()}; }

void start_log(std::string component, std::string_view format, std::string_view least) {
  Log& l = instance();
  l.component = std::move(component);
  const auto* const found = std::ranges::find(kLevels, least);
  l.least = found == kLevels.end() ? Level::kInfo : static_cast<Level>(found - kLevels.begin());
  l.pretty = format == "pretty" || (format.empty() && isatty(STDERR_FILENO) == 1);
  l.pool = std::make_shared<spdlog::details::thread_pool>(8192, 1);
  l.sink = std::make_shared<spdlog::async_logger>("llorch", std::make_shared<spdlog::sinks::stderr_sink_mt>(), l.pool,
                                                  spdlog::async_overflow_policy::overrun_oldest);
  l.sink->set_pattern("%v");
  l.sink->flush_on(spdlog::level::info);
}

void start_log(std::string component, std::function<void(const std::string& line)> line) {
  Log& l = instance();
  l.component = std::move(component);
  l.pretty = false, l.least = Level::kTrace;
  l.line = std::move(line);
}

void stop_log() {
  Log& l = instance();
  l.line = nullptr;
  l.sink.reset();
  l.pool.reset();  // waits until all lines are out
}

bool logs(Level level) {
  const Log& l = instance();
  return (l.sink || l.line) && level >= l.least && level != Level::kMute;
}

namespace {

void write_line(Level level, std::string_view event, std::string_view message, boost::json::object& fields) {
  const Log& l = instance();
  const std::string now = rfc3339(std::chrono::system_clock::now());
  std::string line;
  if (l.pretty) {
    line = clean_for_terminal(fmt::format("{} {:5} {}", now.substr(11, 12), name(level), message));
    std::ranges::replace(line, '\n', ' ');  // one record, one line
  } else {
    boost::json::object o{
        {"timestamp", now}, {"level", name(level)}, {"component", l.component}, {"event", event}, {"message", message}};
    for (auto& [key, value] : fields) o.emplace(key, std::move(value));
    boost::json::value all(std::move(o));
    security::redact_values(all);  // and then serialised: a line is whole JSON, however long
    line = boost::json::serialize(all);
  }
  if (l.pretty) line = security::redact(line);
  if (l.line) return l.line(line);
  l.sink->info("{}", line);
}

}  // namespace

void log(Level level, std::string_view event, std::string_view message, boost::json::object fields) {
  if (!logs(level)) return;
  try {
    write_line(level, event, message, fields);
  } catch (...) {  // for lack of memory: whoever tells of a fault goes on mending it
  }
}

void watch_loop(net::EventLoop& loop) {
  loop.on_fault = [](const char* what) { log(Level::kError, "handler_failed", what); };
  const char* limit = std::getenv("LLORCH_LOOP_TURN_MS_MAX");
  const long ms = limit ? std::strtol(limit, nullptr, 10) : 0;
  if (ms <= 0) return;
  loop.watch_turns(std::chrono::milliseconds(ms), [](const net::Turn& turn, std::string_view what) {
    const std::string_view handler = what.empty() ? "a handler without a name" : what;
    const auto ms_of = [](auto time) { return std::chrono::duration<double, std::milli>(time).count(); };
    log(Level::kWarn, "loop_turn_slow",
        fmt::format("a turn of the event loop took {:.1f} ms: {}", ms_of(turn.took), handler),
        {{"what", handler},
         {"turn_ms", ms_of(turn.took)},
         {"wall_ms", ms_of(turn.wall)},
         {"computed_ms", ms_of(turn.computed)},
         {"waited_for_processor_ms", ms_of(turn.waited)},
         {"blocked", turn.blocked},
         {"major_faults", turn.major_faults},
         {"machine_stolen_ms", turn.stolen ? boost::json::value(turn.stolen->count()) : boost::json::value(nullptr)}});
  });
}

}  // namespace llorch::service
