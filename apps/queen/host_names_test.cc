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

TEST(HostNames, a_queen_without_tls_on_the_network_is_called_by_the_machine_s_names_too) {
  service::FrontOptions o;
  o.listen = "0.0.0.0", o.insecure_http = true;
  EXPECT_TRUE(holds(admitted_hosts(o), service::host_name())) << "an invitation names her so";
  EXPECT_FALSE(holds(admitted_hosts(o), "queen.llorch.internal"));
  EXPECT_FALSE(holds(admitted_hosts(o), "evil.example"));
}

TEST(HostNames, other_machines_are_told_a_name_by_which_they_reach_her) {
  service::FrontOptions o;
  o.allowed_hosts = {"localhost", "queen.lan:8500"};
  EXPECT_TRUE(meeting_hosts(o).empty()) << "on loopback nobody does";
  o.listen = "10.0.0.7";
  EXPECT_EQ(meeting_hosts(o), (std::vector<std::string>{"queen.lan", "10.0.0.7"}));
  o.listen = "0.0.0.0", o.allowed_hosts.clear();
  ASSERT_FALSE(meeting_hosts(o).empty());
  EXPECT_EQ(meeting_hosts(o).front(), service::host_name());
  EXPECT_FALSE(holds(meeting_hosts(o), "127.0.0.1"));
}

}  // namespace
}  // namespace llorch::queen
