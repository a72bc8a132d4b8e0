// A worker looks from time to time whether its device still holds the model, and says so where it does not (W-29).
#include <gtest/gtest.h>

#include <atomic>

#include "device/decorator.h"
#include "worker/test_served.h"
#include "worker/test_socket.h"

namespace llorch::worker {
namespace {

using namespace std::chrono_literals;

class Forgetful final : public DeviceDecorator {
 public:
  Forgetful(std::unique_ptr<Device> inner, std::atomic<bool>& lost, std::atomic<int>& checks)
      : DeviceDecorator(std::move(inner)), lost_(lost), checks_(checks) {}
  Status check_resident() override {
    ++checks_, checks_.notify_all();
    if (lost_) return fail(ErrorCode::kCudaError, "weights are gone");
    return {};
  }

 private:
  std::atomic<bool>& lost_;
  std::atomic<int>& checks_;
};

std::string get(int port, const std::string& path) {
  return get_until(port, path, [](const std::string&) { return false; });
}

TEST(Residency, a_violation_makes_the_worker_unhealthy_until_it_is_ended) {
  std::atomic<bool> lost = false;
  std::atomic<int> checks = 0;
  ServeOptions options = test_options();
  options.residency_interval = 10ms;
  options.engine.model.decorate = [&](std::unique_ptr<Device> inner) {
    return std::make_unique<Forgetful>(std::move(inner), lost, checks);
  };
  Served served(options);
  served.wait_ready();
  for (int seen = checks; seen < 3; seen = checks) checks.wait(seen);  // it looks again and again
  const std::string before = get(served.port(), "/health");
  EXPECT_TRUE(before.starts_with("HTTP/1.1 200") && before.contains(R"("resident":true)")) << before;
  lost = true;
  std::string seen;
  const auto until = net::Clock::now() + 60s;
  while (!(seen = get(served.port(), "/health")).starts_with("HTTP/1.1 503") && net::Clock::now() < until) {
  }
  EXPECT_TRUE(seen.contains(R"("resident":false)") && seen.contains(R"("status":"unhealthy")")) << seen;
  const std::string refused =
      post(served.port(), "/v1/completions", R"({"model":"builtin:haiku","prompt":"a","max_tokens":3})");
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 503") && refused.contains("WORKER_UNHEALTHY")) << refused;
  served.shutdown();
  EXPECT_EQ(served.wait_end(), 1);
}

}  // namespace
}  // namespace llorch::worker
