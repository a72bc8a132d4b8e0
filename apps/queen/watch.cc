#include "queen/watch.h"

namespace llorch::queen {

void OpenCalls::end(const std::string& hive, const Error& why) {
  ended_.insert_or_assign(hive, why);
  const auto [first, last] = calls_.equal_range(hive);
  for (auto it = first; it != last; ++it) it->second->cancel(why);  // goes on from the loop: nothing is erased here
}

std::optional<Error> OpenCalls::ended(const std::string& hive) const {
  const auto it = ended_.find(hive);
  return it == ended_.end() ? std::nullopt : std::optional(it->second);
}

service::Procedure watch_daemon(service::FlowPtr flow, service::Peer peer, std::shared_ptr<Watched> call,
                                service::Step<bool>::Done done) {
  for (int failures = 0; !call->done && failures < kProbeFailuresMax;) {
    const auto ended = co_await call->ended.wait(flow, kProbeAfter);
    if (!ended || call->done) co_return done(true);
    const auto asked = net::Clock::now();
    if (asked - call->pulse->last < kProbeAfter) continue;
    service::Asked probe("GET", "/health");
    probe.idle_timeout = kProbeTimeout;
    const auto answer = co_await service::ask(flow, peer, probe);
    if (flow->cancelled()) co_return done(true);
    failures = answer || call->pulse->last >= asked ? 0 : failures + 1;
  }
  done(call->done);
}

service::Procedure call_off(service::FlowPtr flow, service::Peer peer, std::string path,
                            std::shared_ptr<void> /*counted*/) {
  const service::Asked asked("DELETE", std::move(path));
  (void)co_await service::ask(flow, peer, asked);
}

}  // namespace llorch::queen
