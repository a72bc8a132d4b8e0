// Who a key is, and what people see of it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "base/ids.h"
#include "security/auth.h"
#include "security/digest.h"

namespace llorch::security {
namespace {

TEST(Authenticator, keys_with_the_same_label_are_not_the_same) {
  // 24 bits of a hash: among some thousand keys two share them.
  std::map<std::string, std::string> by_label;
  std::string first, second;
  for (int i = 0; second.empty(); ++i) {
    const std::string token = fmt::format("a-key-of-somebody-{}", i);
    const auto [before, fresh] = by_label.emplace(sha256(token).substr(0, 3), token);
    if (!fresh) first = before->second, second = token;
  }
  Authenticator a;
  a.admit({sha256(first), {Scope::kInfer}, "", ""});
  a.admit({sha256(second), {Scope::kInfer}, "", ""});
  const auto one = a.authenticate({.authorization = "Bearer " + first}, {});
  const auto other = a.authenticate({.authorization = "Bearer " + second}, {});
  ASSERT_TRUE(one && other);
  EXPECT_NE(one->id, other->id) << "they would share jobs, answers and prompts";
  EXPECT_EQ(one->label(), other->label());
  EXPECT_EQ(one->label().size(), std::string("token:").size() + 6);
}

TEST(Authenticator, a_shared_key_goes_by_its_hash_and_its_name_says_nothing) {
  Authenticator a;
  a.add_token("the-operators-own-token", {Scope::kAdmin});
  const auto shows = [&](const std::string& token) { return a.authenticate({.authorization = "Bearer " + token}, {}); };
  for (const char* name : {"", "laptop", "hive:red", "join"}) {
    a.share({sha256("a-shared-key"), {Scope::kNode}, "", name});
    a.share({sha256("a-shared-key"), {Scope::kInfer}, "", name});
    const auto who = shows("a-shared-key");
    ASSERT_TRUE(who);
    EXPECT_EQ(who->name, "") << "one that is named as a hive's would speak for it";
    EXPECT_EQ(who->scopes, std::set{Scope::kInfer}) << "the later one holds";
    a.unshare(sha256("a-shared-key"));
    EXPECT_FALSE(shows("a-shared-key"));
  }
  // Whoever shares the hash of the operator's token, or unshares it, does not touch that.
  a.share({sha256("the-operators-own-token"), {Scope::kInfer}, "", ""});
  EXPECT_TRUE(shows("the-operators-own-token")->is_operator);
  a.unshare(sha256("the-operators-own-token"));
  EXPECT_TRUE(shows("the-operators-own-token")->may(Scope::kAdmin));
}

TEST(Keys, no_two_of_a_file_have_the_same_label) {
  const std::string folder = std::filesystem::temp_directory_path() / ("llorch-identity-" + random_hex(6));
  const std::string path = folder + "/keys";
  std::set<std::string> labels;
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(create_key(path, {Scope::kInfer}, ""));
  const auto keys = read_keys(path).value();
  for (const ApiKey& key : keys) {
    EXPECT_TRUE(labels.insert(key.label()).second);
    EXPECT_EQ(label_of(key.identity()), key.label());
  }
  EXPECT_EQ(label_of("proxy:somebody-with-a-long-name"), "proxy:somebody-with-a-long-name");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace llorch::security
