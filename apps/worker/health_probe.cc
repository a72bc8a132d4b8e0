#include "worker/health_probe.h"

#include <algorithm>

namespace llorch::worker {

void HealthProbe::check(std::function<void(const std::string&)> done) {
  const auto check = std::make_shared<Check>(std::move(done), net::EventLoop::Timer());
  checks_.push_back(check);
  check->patience = loop_.after(patience_, [this, weak = std::weak_ptr(check)] {
    if (const auto alive = weak.lock()) finish(alive);
  });
  for (Asked& asked : parts_) {
    if (asked.since) continue;
    asked.since = net::Clock::now();
    asked.part.ping([this, &asked] { answered(asked); });
  }
}

void HealthProbe::answered(Asked& asked) {
  asked.since.reset();
  if (std::ranges::any_of(parts_, [](const Asked& a) { return a.since.has_value(); })) return;
  const auto all = checks_;
  for (const auto& check : all) finish(check);
}

void HealthProbe::finish(const std::shared_ptr<Check>& check) {
  if (std::erase(checks_, check) > 0) check->done(stuck());
}

std::string HealthProbe::stuck() const {
  const auto now = net::Clock::now();
  for (const Asked& a : parts_)
    if (a.since && now - *a.since >= a.part.stuck_after) return a.part.name;
  return {};
}

}  // namespace llorch::worker
