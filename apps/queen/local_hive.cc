#include "queen/local_hive.h"

#include <csignal>

#include "format/json.h"
#include "service/log.h"

namespace llorch::queen {
namespace {

constexpr std::chrono::seconds kGrace{10};

service::Procedure end_process(service::FlowPtr flow, LocalHive& hive, service::Step<bool>::Done done) {
  hive.signal(SIGTERM);
  const auto killed_at = net::Clock::now() + kGrace;
  while (hive.running() && net::Clock::now() < killed_at) {
    const auto exited = co_await hive.exited().wait(flow, killed_at - net::Clock::now());
    if (!exited) break;  // nobody waits any more
  }
  hive.signal(SIGKILL);
  done(true);
}

}  // namespace

Status LocalHive::start() {
  if (running()) return {};
  last_message_.clear();
  const auto on_line = [this](const std::string& line) {
    const auto parsed = json::parse(line, "log");
    const auto message =
        parsed && parsed->is_object() ? json::find_text(parsed->get_object(), "message") : std::nullopt;
    last_message_ = message.value_or(line);
  };
  const auto on_exit = [this](int code) {
    service::log(service::Level::kInfo, "hive_exited", fmt::format("the local hive ended with {}", code));
    killed_ = code > 128;
    plan_.on_exit(code);
    exited_.notify();
  };
  LLORCH_TRY(process_, service::Process::start(loop_, plan_.invocation(), on_line, on_exit));
  return {};
}

service::Step<bool> LocalHive::stop(const service::FlowPtr& flow) {
  return {flow, [this, flow](service::Step<bool>::Done done) -> std::any {
            end_process(flow, *this, std::move(done));
            return {};
          }};
}

}  // namespace llorch::queen
