#include "service/log.h"

#include <fmt/format.h>
#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <chrono>

#include "base/ids.h"
#include "security/auth.h"

namespace llorch::service {
namespace {

struct Log {
  std::string component;
  bool pretty = false;
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::logger> sink;
};
Log& instance() {
  static Log log;
  return log;
}

}  // namespace

void start_log(std::string component, std::string_view format) {
  Log& l = instance();
  l.component = std::move(component);
  l.pretty = format == "pretty" || (format.empty() && isatty(STDERR_FILENO) == 1);
  l.pool = std::make_shared<spdlog::details::thread_pool>(8192, 1);
  l.sink = std::make_shared<spdlog::async_logger>("llorch", std::make_shared<spdlog::sinks::stderr_sink_mt>(), l.pool,
                                                  spdlog::async_overflow_policy::overrun_oldest);
  l.sink->set_pattern("%v");
  l.sink->flush_on(spdlog::level::info);
}

void stop_log() {
  Log& l = instance();
  l.sink.reset();
  l.pool.reset();  // waits until all lines are out
}

void log(Level level, std::string_view event, std::string_view message, boost::json::object fields) {
  const Log& l = instance();
  if (!l.sink || level == Level::kDebug) return;
  static constexpr std::string_view kNames[] = {"debug", "info", "warn", "error"};
  const std::string_view name = kNames[static_cast<std::size_t>(level)];
  const std::string now = rfc3339(std::chrono::system_clock::now());
  std::string line;
  if (l.pretty) {
    line = fmt::format("{} {:5} {}", now.substr(11, 12), name, message);
  } else {
    boost::json::object o{
        {"timestamp", now}, {"level", name}, {"component", l.component}, {"event", event}, {"message", message}};
    for (auto& [key, value] : fields) o.emplace(key, std::move(value));
    line = boost::json::serialize(o);
  }
  l.sink->info("{}", security::redact(line));
}

}  // namespace llorch::service
