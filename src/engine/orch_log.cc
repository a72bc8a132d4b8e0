#include "engine/orch_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>
#include <string>

#include "base/ids.h"
#include "base/integer.h"

namespace llorch::orch_log {
namespace {

constexpr std::size_t kBytesMax = std::size_t{64} << 20;
constexpr int kFatal[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};

struct Log {
  std::mutex mutex;
  std::string buffer, team = "llorch";
  int descriptor = -1, values = 10;
  std::uint64_t dropped = 0;
};
/// Never destroyed: it is written at the very end.
Log& the_log() {
  static Log* log = new Log;
  return *log;
}

/// Only what a signal handler may do: the records are text already.
void on_fatal(int number) {
  const Log& log = the_log();
  for (std::size_t at = 0; at < log.buffer.size();) {
    const ssize_t n = write(log.descriptor, log.buffer.data() + at, log.buffer.size() - at);
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  signal(number, SIG_DFL);
  raise(number);
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

void append_json_text(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  out += '"';
}

}  // namespace

Status open() {
  Log& log = the_log();
  const std::lock_guard lock(log.mutex);
  const std::string path = variable("ORCH_LOG_FILE");
  if (path.empty() || log.descriptor >= 0) return {};
  if (const std::string team = variable("ORCH_LOG_TEAM"); !team.empty()) log.team = team.substr(0, 128);
  if (const std::string count = variable("ORCH_LOG_VALUES"); !count.empty()) {
    const auto values = parse_integer<decltype(log.values)>(count);
    if (!values || *values < 0) return fail(ErrorCode::kInvalidRequest, "ORCH_LOG_VALUES must be a whole number");
    log.values = *values;
  }
  log.descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (log.descriptor < 0) return fail(ErrorCode::kIo, "ORCH_LOG_FILE: cannot write {}", path);
  std::atexit([] { (void)flush_now(); });
  for (const int number : kFatal) signal(number, on_fatal);
  return {};
}

bool on() { return the_log().descriptor >= 0; }

void record(std::string_view checkpoint, int token_idx, std::span<const float> values, std::string_view file,
            int line) {
  std::int64_t nan = 0, infinite = 0, best = -1;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float v = values[i];
    nan += std::isnan(v), infinite += std::isinf(v);
    if (std::isfinite(v) && (best < 0 || v > values[static_cast<std::size_t>(best)]))
      best = static_cast<std::int64_t>(i);
  }
  Log& log = the_log();
  std::string out = R"({"ts":")" + rfc3339(std::chrono::system_clock::now()) + R"(","team":)";
  append_json_text(out, log.team);
  out += R"(,"checkpoint":)";
  append_json_text(out, checkpoint);
  fmt::format_to(std::back_inserter(out), R"(,"token_idx":{},"dtype":"f32","shape":"[1,{}]","values":[)", token_idx,
                 values.size());
  for (std::size_t i = 0; i < std::min(values.size(), static_cast<std::size_t>(log.values)); ++i) {
    if (i > 0) out += ',';
    char text[32];
    if (std::isfinite(values[i]))
      out.append(text, std::to_chars(text, text + sizeof text, values[i]).ptr);
    else
      out += "null";
  }
  fmt::format_to(std::back_inserter(out), R"(],"nonfinite":{{"nan":{},"inf":{}}},"argmax":{},"max":{})", nan, infinite,
                 best, best < 0 ? std::string("null") : fmt::format("{}", values[static_cast<std::size_t>(best)]));
  const std::size_t slash = file.rfind('/');
  out += R"(,"source":"engine","file":)";
  append_json_text(out, slash == file.npos ? file : file.substr(slash + 1));
  fmt::format_to(std::back_inserter(out), ",\"line\":{}}}\n", line);
  const std::lock_guard lock(log.mutex);
  if (log.buffer.size() + out.size() > kBytesMax)
    ++log.dropped;
  else
    log.buffer += out;
}

Status flush_now() {
  Log& log = the_log();
  const std::lock_guard lock(log.mutex);
  if (log.descriptor < 0) return {};
  if (log.dropped > 0) {
    log.buffer += fmt::format("{{\"checkpoint\":\"dropped\",\"records\":{}}}\n", log.dropped);
    log.dropped = 0;
  }
  for (std::size_t at = 0; at < log.buffer.size();) {
    const ssize_t n = write(log.descriptor, log.buffer.data() + at, log.buffer.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      log.buffer.erase(0, at);
      return fail(ErrorCode::kIo, "ORCH_LOG_FILE: {}", std::strerror(errno));
    }
    at += static_cast<std::size_t>(n);
  }
  log.buffer.clear();
  return {};
}

}  // namespace llorch::orch_log
