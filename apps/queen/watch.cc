#include "queen/watch.h"

namespace llorch::queen {

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

}  // namespace llorch::queen
