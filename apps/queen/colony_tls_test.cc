// What the queen signs and revokes, and that one does not hold up the other.
#include "queen/colony_tls.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/ids.h"

namespace llorch::queen {
namespace {

struct ColonyTlsTest : testing::Test {
  ColonyTlsTest() { EXPECT_TRUE(tls->open()); }
  ~ColonyTlsTest() override {
    tls.reset();
    std::filesystem::remove_all(folder);
  }
  std::string folder = std::filesystem::temp_directory_path() / ("llorch-colony-tls-" + random_hex(6));
  net::EventLoop loop;
  std::unique_ptr<ColonyTls> tls =
      std::make_unique<ColonyTls>(loop, ColonyTls::Options{.data_dir = folder, .queen_id = "q"});
  std::string request = security::make_certificate_request(security::make_private_key().value()).value();
};

TEST_F(ColonyTlsTest, a_hive_has_one_certificate_made_at_a_time) {
  std::vector<std::string> outcomes;
  const auto kept = [&](const Result<std::string>& chain) {
    outcomes.emplace_back(chain ? "made" : name(chain.error().code));
    if (outcomes.size() == 4) loop.stop();
  };
  tls->sign(request, "a", {}, kept);
  tls->sign(request, "a", {}, kept);
  tls->sign(request, "b", {}, kept);
  tls->sign("rubbish", "c", {}, kept);
  loop.run();
  std::ranges::sort(outcomes);
  EXPECT_EQ(outcomes, (std::vector<std::string>{"INVALID_REQUEST", "QUEUE_FULL", "made", "made"}));
  bool again = false;
  tls->sign(request, "a", {}, [&](const Result<std::string>& chain) { again = chain.has_value(), loop.stop(); });
  loop.run();
  EXPECT_TRUE(again);
}

TEST_F(ColonyTlsTest, a_revocation_does_not_wait_for_certificates_that_are_being_made) {
  constexpr int kHives = 500;
  int made = 0, made_before = kHives;
  for (int i = 0; i < kHives; ++i)
    tls->sign(request, "hive-" + std::to_string(i), {}, [&](const Result<std::string>&) {
      if (++made == kHives) loop.stop();
    });
  tls->revoke("a", [&](const Status& done) { made_before = done ? made : kHives; });
  loop.run();
  EXPECT_LT(made_before, kHives / 2);
}

}  // namespace
}  // namespace llorch::queen
