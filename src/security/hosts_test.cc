#include <gtest/gtest.h>

#include "security/auth.h"

namespace llorch::security {
namespace {

TEST(Hosts, loopback_and_what_is_allowed) {
  for (const char* ok : {"localhost", "localhost:80", "127.0.0.1:8601", "127.9.9.9", "[::1]:80", "box.lan:1",
                         "10.0.0.5", "LocalHost:80", "BOX.LAN"})
    EXPECT_TRUE(host_allowed(ok, "10.0.0.5", {"Box.lan"})) << ok;
  for (const char* bad : {"", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.6", "127.1"})
    EXPECT_FALSE(host_allowed(bad, "10.0.0.5", {"box.lan"})) << bad;
}

}  // namespace
}  // namespace llorch::security
