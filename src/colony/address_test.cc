// Which addresses a daemon may name: its own, those that it gave when it joined (15.2).
#include "colony/address.h"

#include <fmt/format.h>
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

std::string joined(std::string_view host, bool tls = true, const Origin& from = kFar) {
  const auto s = host_of_joining(host, from, tls);
  return s ? *s : std::string(name(s.error().code));
}

TEST(Address, that_leads_elsewhere_from_here_is_none_to_join_with) {
  EXPECT_EQ(joined("203.0.113.3"), "203.0.113.3");
  EXPECT_EQ(joined("198.51.100.7"), "198.51.100.7") << "another network card of its machine";
  EXPECT_EQ(joined("[2001:DB8::7]"), "2001:db8::7");
  EXPECT_EQ(joined("0.0.0.0"), "");
  for (const char* here :
       {"127.0.0.1", "127.9.9.9", "localhost", "[::1]", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1",
        "[fe80::1%eth0]", "224.0.0.1", "255.255.255.255", "ff02::1", "0.0.0.1", "::127.0.0.1"})
    EXPECT_EQ(joined(here), "FORBIDDEN") << here;
  EXPECT_EQ(joined("127.0.0.1", true, {"127.0.0.1", "127.0.0.1", ""}), "127.0.0.1");
  EXPECT_EQ(joined("169.254.3.4", true, {"169.254.3.4", "169.254.1.1", ""}), "169.254.3.4") << "its own";
  // A name leads wherever its owner says, and so do spellings of addresses that only a resolver knows.
  EXPECT_EQ(joined("box.lan", true), "box.lan") << "which must show its certificate there";
  for (const char* text : {"box.lan", "2130706433", "0x7f000001", "127.1"})
    EXPECT_EQ(joined(text, false), "FORBIDDEN") << text;
}

TEST(Address, of_this_machine_is_nobody_else_s_whatever_was_given_at_joining) {
  for (const char* here : {"127.0.0.1", "localhost", "::1", "169.254.169.254"})
    EXPECT_EQ(settled(fmt::format("http://{}:1", std::string_view(here).contains("::") ? "[::1]" : here),
                      {"203.0.113.3", "203.0.113.1", here}),
              "FORBIDDEN")
        << here;
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
