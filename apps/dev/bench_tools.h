// What benchmarks of whole daemons share: processor time of another process, and an event loop run from outside.
#pragma once

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "net/http_client.h"
#include "service/process.h"

namespace llorch::dev {

inline constexpr const char* kBenchFolder = "/tmp/llorch-bench";

/// Seconds of processor time that a process has had.
inline double cpu_seconds(int pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const std::size_t at = std::min(text.size(), text.rfind(')') + 1);
  std::vector<std::string> fields;
  for (std::size_t i = at; i < text.size();) {
    const std::size_t end = std::min(text.find(' ', i), text.size());
    if (end > i) fields.push_back(text.substr(i, end - i));
    i = end + 1;
  }
  if (fields.size() < 13) return 0;
  return static_cast<double>(std::stoll(fields[11]) + std::stoll(fields[12])) /
         static_cast<double>(sysconf(_SC_CLK_TCK));
}

inline void run_for(net::EventLoop& loop, net::Clock::duration time) {
  const auto timer = loop.after(time, [&loop] { loop.stop(); });
  loop.run();
}

inline Status until(net::EventLoop& loop, const std::function<bool()>& done, int seconds) {
  const auto end = net::Clock::now() + std::chrono::seconds(seconds);
  while (!done()) {
    if (net::Clock::now() > end) return fail(ErrorCode::kOperationTimeout, "it did not happen in {} seconds", seconds);
    run_for(loop, std::chrono::milliseconds(20));
  }
  return {};
}

inline net::ClientRequest post(const std::string& url, std::string body) {
  net::ClientRequest r;
  r.method = "POST", r.url = net::parse_url(url).value(), r.body = std::move(body);
  r.headers.add("Content-Type", "application/json");
  return r;
}

/// A heartbeat that the queen of start_queen() believes: with the key that she has left for hives of her user.
inline net::ClientRequest heartbeat(const std::string& base, std::string body) {
  static std::string key;
  if (key.empty()) std::ifstream(std::string(kBenchFolder) + "/node-token") >> key;
  net::ClientRequest r = post(base + "/v1/heartbeat", std::move(body));
  r.headers.add("Authorization", "Bearer " + key);
  return r;
}

/// One call, waited for: true when its status is 200.
inline bool tell(net::EventLoop& loop, net::ClientRequest request) {
  int status = 0;
  bool ended = false;
  const net::Call call = net::start_call(loop, std::move(request),
                                         {.on_head = [&](int s, const net::Headers&) { status = s; },
                                          .on_data = {},
                                          .on_end = [&](const Status&) { ended = true; }});
  for (int i = 0; i < 100 && !ended; ++i) run_for(loop, std::chrono::milliseconds(10));
  return status == 200;
}

/// A queen of the benchmark's own, whose catalogs are thrown away.
inline Result<std::unique_ptr<service::Process>> start_queen(net::EventLoop& loop, int port, bool tls = false) {
  service::ProcessOptions o;
  o.arguments = {service::own_folder() + "/llorch-queen",
                 "--local-mode",
                 "--port",
                 std::to_string(port),
                 "--data-dir",
                 kBenchFolder,
                 "--worker-slots",
                 "65536",
                 "--heartbeat-interval-sec",
                 "3600",
                 "--admission-capacity",
                 "-1",
                 "--log-format",
                 "json"};
  if (tls) o.arguments.emplace_back("--tls");
  o.log_file = std::string(kBenchFolder) + "/queen.log";
  LLORCH_TRY(auto queen, service::Process::start(o));
  queen->listen(loop, {}, {});
  return queen;
}

}  // namespace llorch::dev
