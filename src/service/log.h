// What a daemon tells people: one JSON object per line on stderr, pretty on a terminal (O-10), and narration (O-01).
//
// Never blocks: lines go through a bounded queue to a thread that writes; the oldest are dropped when nobody reads.
// Secrets are redacted. Thread-safe.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>

namespace llorch::service {

enum class Level { kDebug, kInfo, kWarn, kError };

/// `component` stands in every line. `format`: "json", "pretty", or "" for pretty on a terminal.
void start_log(std::string component, std::string_view format);
void stop_log();
/// `event` is a stable code such as "model_load_progress".
void log(Level level, std::string_view event, std::string_view message, boost::json::object fields = {});

}  // namespace llorch::service
