#include "queen/host_names.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "service/process.h"

namespace llorch::queen {
namespace {

bool holds(const std::vector<std::string>& all, const std::string& one) {
  return std::ranges::find(all, one) != all.end();
}

TEST(HostNames, what_cannot_stand_in_a_certificate_is_left_out_of_it) {
  const std::vector<std::string> good{"10.0.0.1", "::1", "queen.lan", "NAS-2"};
  auto all = good;
  for (const std::string bad :
       {"my_nas", "queen.lan:8500", "", "a b", "x,DNS:other", "[::1]", "a.hive.llorch.internal"})
    all.push_back(bad);
  all.push_back(std::string(300, 'a'));
  EXPECT_EQ(certified_hosts(all), good);
}

TEST(HostNames, a_queen_with_tls_is_called_by_whatever_her_certificate_names) {
  service::FrontOptions o;
  o.allowed_hosts = {"my_nas", "queen.lan:8500"};
  EXPECT_EQ(admitted_hosts(o), (std::vector<std::string>{"my_nas", "queen.lan"})) << "on loopback, nothing more";
  o.listen = "0.0.0.0";
  const auto hosts = admitted_hosts(o);
  for (const std::string host : {"my_nas", "queen.lan", "queen.llorch.internal", "127.0.0.1", "localhost"})
    EXPECT_TRUE(holds(hosts, host)) << host;
  EXPECT_TRUE(holds(hosts, service::host_name()));
}

}  // namespace
}  // namespace llorch::queen
