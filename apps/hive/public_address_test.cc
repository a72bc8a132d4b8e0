#include "hive/public_address.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

namespace llorch::hive {
namespace {

bool is_public(const std::string& text) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET, v6.sin6_family = AF_INET6;
  if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1)
    return is_public_address(reinterpret_cast<const sockaddr*>(&v4));
  EXPECT_EQ(inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr), 1) << text;
  return is_public_address(reinterpret_cast<const sockaddr*>(&v6));
}

TEST(PublicAddress, both_borders_of_each_special_range) {
  for (const char* special : {"0.0.0.0",
                              "0.255.255.255",
                              "10.0.0.0",
                              "10.255.255.255",
                              "100.64.0.0",
                              "100.127.255.255",
                              "127.0.0.1",
                              "169.254.0.0",
                              "169.254.169.254",
                              "172.16.0.0",
                              "172.31.255.255",
                              "192.0.0.0",
                              "192.0.0.255",
                              "192.0.2.1",
                              "192.88.99.1",
                              "192.168.0.0",
                              "192.168.255.255",
                              "198.18.0.0",
                              "198.19.255.255",
                              "198.51.100.7",
                              "203.0.113.7",
                              "224.0.0.1",
                              "239.255.255.255",
                              "240.0.0.0",
                              "255.255.255.255",
                              "::",
                              "::1",
                              "::8.8.8.8",
                              "::ffff:10.0.0.1",
                              "::ffff:127.0.0.1",
                              "::ffff:0:8.8.8.8",
                              "64:ff9b::10.0.0.1",
                              "64:ff9b::127.0.0.1",
                              "64:ff9b:1::8.8.8.8",
                              "64:ff9b::169.254.169.254",
                              "100::1",
                              "2001::1",
                              "2001:1ff:ffff::",
                              "2001:db8::1",
                              "2002:a00:1::",
                              "2002:808:808::",
                              "3fff:fff::1",
                              "5f00::1",
                              "fc00::1",
                              "fdff::1",
                              "fe80::1",
                              "fec0::1",
                              "ff02::1"})
    EXPECT_FALSE(is_public(special)) << special;
  for (const char* open : {"1.0.0.0",          "9.255.255.255",   "11.0.0.0",
                           "100.63.255.255",   "100.128.0.0",     "126.255.255.255",
                           "128.0.0.0",        "172.15.255.255",  "172.32.0.0",
                           "192.0.1.0",        "192.167.255.255", "198.17.255.255",
                           "198.20.0.0",       "223.255.255.255", "::ffff:8.8.8.8",
                           "64:ff9b::8.8.8.8", "2001:200::1",     "2001:4860:4860::8888",
                           "2003::1",          "2606:4700::1111", "3ffe::1"})
    EXPECT_TRUE(is_public(open)) << open;
}

}  // namespace
}  // namespace llorch::hive
