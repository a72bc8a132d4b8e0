// Whom a daemon of a hive that has joined serves.
#include "colony/caller.h"

#include <gtest/gtest.h>

#include "security/authority.h"

namespace llorch::colony {
namespace {

using namespace std::chrono_literals;
using security::DaemonKind;

/// The bytes of a text's first certificate.
std::shared_ptr<const std::string> der(const std::string& pem) {
  const std::size_t begin = pem.find('\n') + 1, end = pem.find("-----END");
  std::string bytes;
  std::uint32_t bits = 0;
  int have = 0;
  for (std::size_t i = begin; i < end; ++i) {
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const std::size_t digit = kDigits.find(pem[i]);
    if (digit == std::string_view::npos) continue;
    bits = bits << 6 | static_cast<std::uint32_t>(digit), have += 6;
    if (have >= 8) have -= 8, bytes += static_cast<char>(bits >> have & 255);
  }
  return std::make_shared<const std::string>(bytes);
}

struct Colony {
  security::CertificateTime now = security::now_in_seconds();
  security::Signer root = security::make_root({"colony", 1}, now - 1h, now + 100h).value();
  std::string key = security::make_private_key().value();
  [[nodiscard]] std::shared_ptr<const std::string> shown(DaemonKind kind, std::chrono::seconds lasts = 1h) const {
    const auto request = security::make_certificate_request(key).value();
    return der(security::sign_daemon(root, request, {kind, "x"}, {}, now - 1h, now + lasts).value());
  }
};

net::Request from(const std::string& peer, std::shared_ptr<const std::string> certificate = nullptr) {
  net::Request r;
  r.peer = peer, r.certificate = std::move(certificate);
  return r;
}

TEST(Caller, from_another_machine_is_the_queen_and_shows_it) {
  const Colony c;
  CallerCheck check;
  const auto queen = c.shown(DaemonKind::kQueen), hive = c.shown(DaemonKind::kHive);
  EXPECT_TRUE(check(from("203.0.113.7", queen)));
  EXPECT_TRUE(check(from("203.0.113.7", queen))) << "again";
  const Status stranger = check(from("203.0.113.7")), other = check(from("203.0.113.7", hive));
  ASSERT_FALSE(stranger || other);
  EXPECT_EQ(stranger.error().code, ErrorCode::kForbidden);
  EXPECT_TRUE(other.error().message.contains("no queen's")) << other.error().message;
  EXPECT_FALSE(check(from("203.0.113.7", std::make_shared<const std::string>("rubbish"))));
  EXPECT_TRUE(check(from("127.0.0.1"))) << "people there";
  EXPECT_TRUE(check(from("127.0.0.1", hive))) << "the hive's workers";
}

TEST(Caller, whose_certificate_has_ended_is_refused_on_a_connection_that_was_kept) {
  const Colony c;
  CallerCheck check;
  const auto queen = c.shown(DaemonKind::kQueen, 10s);
  EXPECT_TRUE(check(from("203.0.113.7", queen), c.now));
  const Status late = check(from("203.0.113.7", queen), c.now + 11s);
  ASSERT_FALSE(late);
  EXPECT_TRUE(late.error().message.contains("expired")) << late.error().message;
}

}  // namespace
}  // namespace llorch::colony
