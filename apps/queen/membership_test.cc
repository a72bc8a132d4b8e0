// Who speaks for a hive and what it is sent (15.2, 15.17): every kind of key at every kind of queen.
#include "queen/membership.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/ids.h"
#include "security/digest.h"

namespace llorch::queen {
namespace {

using security::Authenticator;
using security::Scope;

const std::string kOperator = "the-operators-own-token";

class MembershipTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(folder_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// What a report with this key gets: the token that opens the hive, or the error's code.
  static std::string answer(Authenticator& keys, const Membership& members, const std::string& key,
                            const std::string& hive) {
    const std::string header = "Bearer " + key;
    const auto who = keys.authenticate({.authorization = header, .peer = "203.0.113.7"}, {});
    if (!who) return std::string(name(who.error().code));
    const Membership::Speaker speaker{*who, header};
    if (const Status may = members.check_speaker(speaker, hive); !may) return std::string(name(may.error().code));
    const auto token = members.token_for(speaker, hive);
    return token ? *token : std::string(name(token.error().code));
  }
  std::string join(Authenticator& keys, Membership& members, const std::string& hive, const std::string& token) {
    const auto once = members.make_join_token({}).value();
    const auto who = keys.authenticate({.authorization = "Bearer " + once, .peer = "p"}, {}).value();
    const auto joined = members.join(who, hive, token, {}).value();
    EXPECT_TRUE(members.save(hive, token));
    rows_[hive] = {hive, "", 0, joined.node_key, ""};
    return joined.node_token;
  }
  std::string folder_ = "/tmp/llorch-members-XXXXXX";
  std::map<std::string, HiveRow> rows_;
};

TEST_F(MembershipTest, each_key_brings_its_own_token) {
  Authenticator keys;
  keys.add_token(kOperator, {Scope::kAdmin, Scope::kNode});
  keys.admit({security::sha256("a-key-of-scope-node"), {Scope::kNode}, "", ""});
  keys.admit({security::sha256("an-administrators-key"), {Scope::kAdmin}, "", ""});
  Membership members(keys, folder_);
  ASSERT_TRUE(members.open(kOperator, "here", {}));
  const std::string box = join(keys, members, "box", "opens-the-box"),
                    ant = join(keys, members, "ant", "opens-the-ant");
  EXPECT_EQ(answer(keys, members, box, "box"), "opens-the-box");
  EXPECT_EQ(answer(keys, members, ant, "ant"), "opens-the-ant");
  EXPECT_EQ(answer(keys, members, kOperator, "any"), kOperator) << "who shows it knows it";
  EXPECT_EQ(answer(keys, members, box, "ant"), "FORBIDDEN");
  EXPECT_EQ(answer(keys, members, box, "any"), "FORBIDDEN");
  for (const char* key : {"a-key-of-scope-node", "an-administrators-key"})
    for (const char* hive : {"box", "any", "here"}) EXPECT_EQ(answer(keys, members, key, hive), "FORBIDDEN") << key;
  EXPECT_EQ(answer(keys, members, members.make_join_token({}).value(), "box"), "FORBIDDEN");
  members.dismiss("box");
  EXPECT_EQ(answer(keys, members, box, "box"), "INVALID_API_KEY");
}

TEST_F(MembershipTest, a_hive_that_leaves_takes_no_other_s_key_along) {
  Authenticator keys;
  keys.add_token(kOperator, {Scope::kAdmin, Scope::kNode});
  std::map<std::string, std::string> by_label;  // two keys with one label are found among some thousands
  std::string first, second;
  for (int i = 0; second.empty(); ++i) {
    const std::string key = "a-key-of-a-hive-" + std::to_string(i), label = to_hex(security::sha256(key)).substr(0, 6);
    if (const auto [it, fresh] = by_label.emplace(label, key); !fresh) first = it->second, second = key;
  }
  const auto row = [](const std::string& id, const std::string& key) {
    return HiveRow{id, "", 0, security::sha256_hex(key), ""};
  };
  Membership members(keys, folder_);
  ASSERT_TRUE(members.save("ant", "opens-the-ant") && members.save("box", "opens-the-box"));
  ASSERT_TRUE(members.open(kOperator, "here", {{"ant", row("ant", first)}, {"box", row("box", second)}}));
  members.dismiss("ant");
  EXPECT_EQ(answer(keys, members, second, "box"), "opens-the-box");
  EXPECT_EQ(answer(keys, members, first, "ant"), "INVALID_API_KEY");
}

TEST_F(MembershipTest, a_token_that_is_lost_is_replaced_by_no_other) {
  std::string key;
  {
    Authenticator keys;
    keys.add_token(kOperator, {Scope::kAdmin, Scope::kNode});
    Membership members(keys, folder_);
    ASSERT_TRUE(members.open(kOperator, "here", {}));
    key = join(keys, members, "box", "opens-the-box");
  }
  for (const bool lost : {false, true}) {
    if (lost) std::filesystem::remove(folder_ + "/hive-tokens/box");
    Authenticator keys;
    keys.add_token(kOperator, {Scope::kAdmin, Scope::kNode});
    Membership members(keys, folder_);
    ASSERT_TRUE(members.open(kOperator, "here", rows_));
    EXPECT_EQ(answer(keys, members, key, "box"), lost ? "FORBIDDEN" : "opens-the-box");
  }
}

TEST_F(MembershipTest, without_keys_only_what_this_queen_gave) {
  Authenticator keys;
  Membership members(keys, folder_);
  ASSERT_TRUE(members.open("", "here", {}));
  const auto [variable, key] = members.local_hive_variable();
  EXPECT_EQ(variable, "LLORCH_NODE_TOKEN");
  EXPECT_EQ(answer(keys, members, key, "here"), "");
  EXPECT_EQ(answer(keys, members, key, "by-hand"), "");
  for (const char* other : {"", "guess", "llorch-node-000000000000000000000000000000000000000000000000"})
    EXPECT_EQ(answer(keys, members, other, "here"), "FORBIDDEN");
  struct stat info {};
  ASSERT_EQ(stat((folder_ + "/node-token").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  Membership next(keys, folder_);
  ASSERT_TRUE(next.open("", "here", {}));
  EXPECT_EQ(next.local_hive_variable().second, key) << "a hive that was started by hand stays";
}

TEST_F(MembershipTest, keys_without_an_operator_s_token) {
  const std::string file = folder_ + "/keys";
  const std::string node = security::create_key(file, {Scope::kNode}, "hive:here").value();
  Authenticator keys;
  ASSERT_TRUE(keys.watch_keys_file(file, {}));
  Membership members(keys, folder_);
  ASSERT_TRUE(members.open("", "here", {}));
  const auto [variable, key] = members.local_hive_variable();
  EXPECT_EQ(variable, "LLORCH_API_TOKEN") << "the own hive takes keys, too";
  EXPECT_EQ(answer(keys, members, key, "here"), key);
  EXPECT_EQ(answer(keys, members, key, "another"), "FORBIDDEN");
  EXPECT_EQ(answer(keys, members, node, "here"), "FORBIDDEN") << "the name of a key in a file is for people";
}

TEST_F(MembershipTest, an_invitation_outlives_the_queen_and_what_became_of_it_is_told) {
  using std::chrono::minutes;
  const Membership::Time now(std::chrono::hours(100));
  const auto show = [](Authenticator& keys, const std::string& token) {
    return keys.authenticate({.authorization = "Bearer " + token, .peer = "p"}, {});
  };
  std::string open, used, late;
  {
    Authenticator keys;
    keys.add_token(kOperator, {Scope::kAdmin, Scope::kNode});
    Membership members(keys, folder_);
    ASSERT_TRUE(members.open(kOperator, "here", {}, now));
    late = members.make_join_token(now - minutes(5)).value();
    open = members.make_join_token(now, "attic").value(), used = members.make_join_token(now).value();
    ASSERT_TRUE(members.join(show(keys, used).value(), "box", "opens-the-box", now));
    EXPECT_NE(show(keys, used).error().message.find("was used already"), std::string::npos);
    ASSERT_TRUE(members.save_invitations(members.invitations()));
  }
  std::ifstream file(folder_ + "/invitations");
  const std::string kept((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(kept.find("llorch-join-"), std::string::npos) << "hashes alone are kept";
  Authenticator keys;
  keys.add_token(kOperator, {Scope::kAdmin, Scope::kNode});
  Membership members(keys, folder_);
  ASSERT_TRUE(members.open(kOperator, "here", {}, now + minutes(6)));
  const auto who = show(keys, open);
  ASSERT_TRUE(who) << who.error().message;
  EXPECT_FALSE(members.check_joining(*who, "box", false, now + minutes(6))) << "it is for another hive";
  EXPECT_TRUE(members.check_joining(*who, "attic", true, now + minutes(6)));
  EXPECT_NE(show(keys, used).error().message.find("was used already"), std::string::npos);
  EXPECT_NE(show(keys, late).error().message.find("has expired"), std::string::npos);
  EXPECT_NE(show(keys, "llorch-join-0").error().message.find("not known here"), std::string::npos);
  EXPECT_EQ(show(keys, "guess-of-a-stranger").error().message, "the API key is not valid");
  const Status over = members.check_joining(*who, "attic", true, now + minutes(11));
  ASSERT_FALSE(over);
  EXPECT_NE(over.error().message.find("has expired"), std::string::npos);
  ASSERT_TRUE(members.make_join_token(now + std::chrono::hours(2)));
  EXPECT_NE(show(keys, used).error().message.find("not known here"), std::string::npos) << "nothing is kept for ever";
}

TEST_F(MembershipTest, a_clock_that_was_set_back_makes_no_invitation_last_longer) {
  Authenticator keys;
  keys.add_token(kOperator, {Scope::kAdmin, Scope::kNode});
  Membership members(keys, folder_);
  const Membership::Time now(std::chrono::hours(100));
  const std::string once = members.make_join_token(now).value();
  const auto who = keys.authenticate({.authorization = "Bearer " + once, .peer = "p"}, {});
  ASSERT_TRUE(who);
  EXPECT_FALSE(members.check_joining(*who, "box", false, now - std::chrono::hours(1)));
}

TEST_F(MembershipTest, a_hive_s_name_is_no_path) {
  Authenticator keys;
  keys.add_token(kOperator, {Scope::kAdmin});
  Membership members(keys, folder_);
  std::ofstream(folder_ + "/victim") << "here";
  for (const char* bad : {"../victim", "/etc/passwd", "", ".", "a/b", "a\nb"}) {
    EXPECT_EQ(members.save(bad, "x").error().code, ErrorCode::kInvalidRequest) << bad;
    EXPECT_FALSE(members.save(bad, ""));
  }
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/victim"));
  ASSERT_TRUE(members.open(kOperator, "here", {{"../victim", {"../victim", "", 0, std::string(64, 'a'), ""}}}));
}

}  // namespace
}  // namespace llorch::queen
