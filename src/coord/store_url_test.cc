#include "coord/store_url.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "coord/test_etcd.h"

namespace llorch::coord {
namespace {

TEST(StoreUrl, names_a_store) {
  EXPECT_EQ(parse_store_url("sqlite")->kind, StoreUrl::Kind::kSqlite);
  EXPECT_EQ(parse_store_url("sqlite")->file, "");
  EXPECT_EQ(parse_store_url("sqlite:/var/a.db")->file, "/var/a.db");
  const auto etcd = parse_store_url("etcd://a:1,10.0.0.2,[::1]:5,[fe80::2]");
  ASSERT_TRUE(etcd) << etcd.error().message;
  EXPECT_EQ(etcd->kind, StoreUrl::Kind::kEtcd);
  ASSERT_EQ(etcd->endpoints.size(), 4u);
  EXPECT_EQ(etcd->endpoints[0].host, "a");
  EXPECT_EQ(etcd->endpoints[0].port, 1);
  EXPECT_EQ(etcd->endpoints[1].port, 2379);
  EXPECT_EQ(etcd->endpoints[2].host, "::1");
  EXPECT_EQ(etcd->endpoints[2].port, 5);
  EXPECT_EQ(etcd->endpoints[3].port, 2379);
  EXPECT_FALSE(etcd->endpoints[0].tls);
  EXPECT_TRUE(parse_store_url("etcds://a")->endpoints[0].tls);
}

TEST(StoreUrl, says_what_is_wrong_and_where) {
  const auto says = [](std::string_view url, std::initializer_list<std::string_view> words) {
    const auto parsed = parse_store_url(url);
    ASSERT_FALSE(parsed) << url;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidRequest);
    for (const std::string_view w : words)
      EXPECT_NE(parsed.error().message.find(w), std::string::npos) << url << ": " << parsed.error().message;
  };
  says("", {"'sqlite'"});
  says("http://a", {"'http://a'", "etcd://"});
  says("sqlite:", {"file"});
  says("etcd://", {"endpoint 1", "empty"});
  says("etcd://a,", {"endpoint 2", "empty"});
  says("etcd://a,b:x", {"endpoint 2", "'b:x'", "port"});
  says("etcd://a,b:0", {"endpoint 2", "port"});
  says("etcd://a,:5", {"endpoint 2", "host"});
  says("etcd://a/b", {"endpoint 1", "'/b'"});
  says("etcd://u:p@a", {"endpoint 1", "user"});
  says("etcd://a b", {"endpoint 1", "character"});
  says("etcd://a,a:2379", {"endpoint 2", "twice"});
  std::string many = "etcd://a0";
  for (int i = 1; i < 17; ++i) many += ",a" + std::to_string(i);
  says(many, {"16"});
}

TEST(StoreUrl, prefixes_are_paths) {
  for (const char* good : {"/llorch", "/a/b.c-d_e"}) EXPECT_TRUE(check_prefix(good)) << good;
  for (const char* bad : {"", "/", "llorch", "/a/", "/a b", "/a\n"}) EXPECT_FALSE(check_prefix(bad)) << bad;
  EXPECT_FALSE(check_prefix("/" + std::string(256, 'a')));
}

TEST(StoreUrl, credentials_come_from_a_file_that_only_its_owner_reads) {
  TestFolder folder;
  const std::string path = folder.path + "/password";
  const auto write = [&](const std::string& text, mode_t mode = 0600) {
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
  };
  write("queen:a:b c\n");
  const auto read = read_credentials(path);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->user, "queen");
  EXPECT_EQ(read->password, "a:b c");
  write("queen:a", 0644);
  EXPECT_FALSE(read_credentials(path));
  for (const char* bad : {"queen", ":a", "queen:", "a:b\nc:d"}) {
    write(bad);
    const auto refused = read_credentials(path);
    ASSERT_FALSE(refused) << bad;
    EXPECT_NE(refused.error().message.find(path), std::string::npos);
  }
  EXPECT_FALSE(read_credentials(folder.path + "/none"));
}

}  // namespace
}  // namespace llorch::coord
