#include "keeper/membership.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "config_file.h"
#include "keeper/hints.h"
#include "queen_start.h"

namespace llorch::keeper {
namespace {

class MembershipTest : public testing::Test {
 protected:
  void SetUp() override {
    home_ = testing::TempDir() + "membership-" + std::to_string(getpid());
    std::filesystem::remove_all(home_);
    std::filesystem::create_directories(folder() + "/tls");
    setenv("HOME", home_.c_str(), 1);
    data_dir_ = home_ + "/.local/share/llorch";
  }
  void TearDown() override { std::filesystem::remove_all(home_); }
  [[nodiscard]] std::string folder() const { return home_ + "/.local/share/llorch/hive-by-hand"; }
  void write(const std::string& file, const std::string& text) const { std::ofstream(folder() + "/" + file) << text; }
  void start(const std::string& how, const std::string& url = "https://queen.lan:8500") const {
    write("start", "echo $$ >\"$HOME/x\"\nexec \"$HOME/.local/bin/llorch-hive\" " + how +
                       " --listen 0.0.0.0 --port 8700 --hive-id attic --queen-url " + url + " --log-format json\n");
  }
  std::string home_, data_dir_;
};

TEST_F(MembershipTest, a_hive_that_has_joined_knows_its_queen) {
  EXPECT_FALSE(own_membership());
  start("--join-token-file \"x/join-token\"");
  write("node-token", "k"), write("tls/root.pem", "r");
  const auto m = own_membership();
  ASSERT_TRUE(m);
  EXPECT_EQ(m->queen_url, "https://queen.lan:8500");
  EXPECT_EQ(m->hive_id, "attic");
  EXPECT_EQ(m->port, 8700);
  EXPECT_EQ(m->root_file, folder() + "/tls/root.pem");
  EXPECT_TRUE(m->has_key);
  EXPECT_TRUE(membership_elsewhere(data_dir_));
}

TEST_F(MembershipTest, a_key_that_is_gone_a_try_and_a_hive_of_this_machine_s_queen) {
  start("--join-token-file \"x/join-token\"");
  ASSERT_TRUE(own_membership());
  EXPECT_FALSE(own_membership()->has_key);
  write("join-token", "t");
  EXPECT_FALSE(own_membership()) << "it has tried, and no more";
  start("--local-mode --queen-ca 'x'");
  EXPECT_FALSE(own_membership());
}

TEST_F(MembershipTest, a_queen_of_this_machine_that_serves_others_has_its_commands) {
  start("--join-token-file \"x/join-token\"");
  write("node-token", "k"), write("tls/root.pem", "r");
  QueenStart last;
  last.arguments = {"--listen", "0.0.0.0", "--token-file", "a b"}, last.directory = "/tmp", last.port = 8500;
  last.environment = {{"LLORCH_LOG_LEVEL", "debug"}};
  ASSERT_TRUE(write_queen_start(data_dir_, last));
  EXPECT_TRUE(membership_elsewhere(data_dir_)) << "one for this machine alone has not";
  last.for_network = true;
  ASSERT_TRUE(write_queen_start(data_dir_, last));
  EXPECT_FALSE(membership_elsewhere(data_dir_));
  const auto read = read_queen_start(data_dir_);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->arguments, last.arguments);
  EXPECT_EQ(read->environment, last.environment);
  EXPECT_EQ(read->directory, "/tmp");
  start("--join-token-file \"x/join-token\"", "https://127.0.0.1:8500");
  std::filesystem::remove(queen_start_file(data_dir_));
  EXPECT_FALSE(membership_elsewhere(data_dir_)) << "its queen is here";
}

TEST_F(MembershipTest, a_queen_of_a_user_without_a_home_reads_no_keys_that_anybody_could_make) {
  EXPECT_EQ(cli::own_keys_file(), home_ + "/.config/llorch/keys");
  unsetenv("HOME");
  EXPECT_EQ(cli::own_keys_file(), "");
  setenv("LLORCH_CONFIG_DIR", "/etc/llorch", 1);
  EXPECT_EQ(cli::own_keys_file(), "/etc/llorch/keys");
  unsetenv("LLORCH_CONFIG_DIR");
}

TEST_F(MembershipTest, hints_are_about_what_has_failed) {
  Common c;
  c.data_dir = data_dir_;
  const auto hint = [&](ErrorCode code, const char* message) { return hint_for(c, {code, message}); };
  EXPECT_TRUE(hint(ErrorCode::kIo, "the queen at http://127.0.0.1:8500 does not answer").contains("queen start"));
  EXPECT_FALSE(hint(ErrorCode::kIo, "cannot write /nosuch/x.pem").contains("queen"));
  EXPECT_FALSE(hint(ErrorCode::kIo, "cannot connect to 10.0.0.3:8600: refused").contains("queen"));
  EXPECT_TRUE(hint(ErrorCode::kInvalidApiKey, "this join token was used already").contains("hive invite"));
  EXPECT_FALSE(hint(ErrorCode::kNoWorkersAvailable, "the hive attic is offline").contains("quantization"));
  EXPECT_TRUE(hint(ErrorCode::kNoWorkersAvailable, "900 MB are needed").contains("quantization"));
  EXPECT_TRUE(hint(ErrorCode::kForbidden, "does not have the scope admin").contains("--scope"));
  c.queen = "https://queen.lan:8501";
  EXPECT_FALSE(hint(ErrorCode::kIo, "the queen at https://queen.lan:8501 does not answer").contains("queen start"));
  start("--join-token-file \"x/join-token\"");
  write("node-token", "k");
  EXPECT_TRUE(hint(ErrorCode::kMissingApiKey, "this server requires an API key").contains("https://queen.lan:8500"));
}

}  // namespace
}  // namespace llorch::keeper
