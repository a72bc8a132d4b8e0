// Which addresses a daemon may name: its own, those that it gave when it joined (15.2).
#include "colony/address.h"

#include <gtest/gtest.h>

namespace llorch::colony {
namespace {

const Origin kFar{"203.0.113.3", "203.0.113.1", ""};

std::string settled(std::string_view url, const Origin& from = kFar) {
  const auto s = settle_url(url, from);
  return s ? *s : std::string(name(s.error().code));
}

TEST(Address, the_peer_s_own) {
  EXPECT_EQ(settled("http://203.0.113.3:8600"), "http://203.0.113.3:8600");
  EXPECT_EQ(settled("http://203.0.113.3:8600/below"), "http://203.0.113.3:8600/below");
  for (const char* other :
       {"http://203.0.113.4:8600", "http://example.com", "http://203.0.113.3.example.com:8600", "http://127.0.0.1:8600",
        "http://[::1]:8600", "http://localhost:8600", "http://203.0.113.1:1"})
    EXPECT_EQ(settled(other), "FORBIDDEN") << other;
  for (const char* none : {"", "203.0.113.3:8600", "ftp://203.0.113.3:8600", "http://a@203.0.113.3:8600",
                           "file:///etc/passwd", "http://203.0.113.3:0", "http://203.0.113.3:8600/ x"})
    EXPECT_EQ(settled(none), "INVALID_REQUEST") << none;
}

TEST(Address, who_listens_everywhere_is_where_it_calls_from) {
  EXPECT_EQ(settled("http://0.0.0.0:8600"), "http://203.0.113.3:8600");
  EXPECT_EQ(settled("http://[::]:8600/p"), "http://203.0.113.3:8600/p");
  EXPECT_EQ(settled("https://0.0.0.0:8600"), "https://203.0.113.3:8600");
  EXPECT_EQ(settled("http://[::]:8600", {"2001:db8::7", "2001:db8::1", ""}), "http://[2001:db8::7]:8600");
  EXPECT_EQ(settled("http://203.0.113.4/://0.0.0.0:8600"), "FORBIDDEN");
}

TEST(Address, one_address_has_one_spelling) {
  EXPECT_EQ(settled("http://203.0.113.3:1", {"::ffff:203.0.113.3", "::ffff:203.0.113.1", ""}), "http://203.0.113.3:1");
  EXPECT_EQ(settled("http://[2001:DB8:0::7]:1", {"2001:db8::7", "2001:db8::1", ""}), "http://[2001:DB8:0::7]:1");
  EXPECT_EQ(normal_host("[::FFFF:1.2.3.4]"), "1.2.3.4");
  EXPECT_EQ(normal_host("LocalHost"), "127.0.0.1");
  EXPECT_EQ(normal_host("Box.Lan"), "box.lan");
}

TEST(Address, what_was_given_at_joining) {
  EXPECT_EQ(settled("http://box.lan:8600", {"203.0.113.3", "203.0.113.1", "Box.lan"}), "http://box.lan:8600");
  EXPECT_EQ(settled("http://198.51.100.7:8600", {"203.0.113.3", "203.0.113.1", "198.51.100.7"}),
            "http://198.51.100.7:8600");
  EXPECT_EQ(settled("http://198.51.100.8:8600", {"203.0.113.3", "203.0.113.1", "198.51.100.7"}), "FORBIDDEN");
}

TEST(Address, on_this_machine_any_of_it) {
  const Origin here{"127.0.0.1", "127.0.0.1", ""};
  EXPECT_EQ(settled("http://127.0.0.1:1", here), "http://127.0.0.1:1");
  EXPECT_EQ(settled("http://127.0.0.9:1", here), "http://127.0.0.9:1");
  EXPECT_EQ(settled("http://localhost:1", here), "http://localhost:1");
  EXPECT_EQ(settled("http://[::1]:1", here), "http://[::1]:1");
  EXPECT_EQ(settled("http://203.0.113.3:1", here), "FORBIDDEN");
  EXPECT_EQ(settled("http://127.0.0.1:1", {"203.0.113.1", "203.0.113.1", ""}), "http://127.0.0.1:1")
      << "it called itself";
}

TEST(Address, of_the_workers_too) {
  HiveBeat beat;
  beat.url = "http://0.0.0.0:8600";
  beat.workers.resize(2);
  beat.workers[1].uri = "http://0.0.0.0:8601";
  ASSERT_TRUE(settle_addresses(beat, kFar));
  EXPECT_EQ(beat.workers[0].uri, "") << "one that is starting";
  EXPECT_EQ(beat.workers[1].uri, "http://203.0.113.3:8601");
  beat.workers[1].uri = "http://198.51.100.9:8601";
  EXPECT_EQ(settle_addresses(beat, kFar).error().code, ErrorCode::kForbidden);
}

}  // namespace
}  // namespace llorch::colony
