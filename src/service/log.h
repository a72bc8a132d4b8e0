// What a daemon tells people: one JSON object per line on stderr, pretty on a terminal (O-10), and narration (O-01).
//
// Never blocks: lines go through a bounded queue to a thread that writes; the oldest are dropped when nobody reads.
// Secrets are redacted. Thread-safe.
#pragma once

#include <boost/json.hpp>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/event_loop.h"

namespace llorch::service {

enum class Level : unsigned char { kTrace, kDebug, kInfo, kWarn, kError, kFatal, kMute };
[[nodiscard]] std::string_view name(Level level);
/// What `--log-level` takes, in order.
[[nodiscard]] std::vector<std::string> level_names();

/// `component` stands in every line. `format`: "json", "pretty", or "" for pretty on a terminal. Below `least` (one of
/// level_names()) nothing is written.
void start_log(std::string component, std::string_view format, std::string_view least = "info");
/// For tests: lines go to `line`, on the thread that logs, as JSON.
void start_log(std::string component, std::function<void(const std::string& line)> line);
void stop_log();
/// Whether a line of this level would be written: for lines that cost something to make.
[[nodiscard]] bool logs(Level level);
/// What a daemon's loop is watched for: handlers that throw are logged and end alone; with LLORCH_LOOP_TURN_MS_MAX in
/// the environment (milliseconds) a turn that takes longer is logged as "loop_turn_slow".
void watch_loop(net::EventLoop& loop);
/// `event` is a stable code such as "model_load_progress". Without memory for the line it is lost; nothing is thrown,
/// but where the caller makes `fields`: a thread's edge gives none.
void log(Level level, std::string_view event, std::string_view message, boost::json::object fields = {});

}  // namespace llorch::service
