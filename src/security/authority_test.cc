// The colony's authority: what it makes, keeps, renews and refuses, under a clock of the test's own.
#include "security/authority.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace llorch::security {
namespace {

using namespace std::chrono_literals;
const DaemonName kMac{DaemonKind::kHive, "mac"};

class AuthorityTest : public ::testing::Test {
 protected:
  AuthorityTest()
      : folder_((std::filesystem::temp_directory_path() / ("authority-" + std::to_string(getpid()))).string()) {
    std::filesystem::remove_all(folder_);
  }
  ~AuthorityTest() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] Result<Authority> open(const std::string& name = "ca") {
    return Authority::open(folder_ + "/" + name, {.queen_id = "q", .clock = [this] { return time_; }});
  }
  [[nodiscard]] CertificateFacts issue(const Authority& a, const DaemonName& who = kMac) const {
    const std::string request = make_certificate_request(make_private_key().value()).value();
    return check_chain(a.sign(request, who, {"10.0.0.7"}).value(), a.root(), time_).value();
  }
  std::string folder_;
  CertificateTime time_ = now_in_seconds();
};

TEST_F(AuthorityTest, is_made_once_kept_secret_and_found_again) {
  const auto first = open();
  ASSERT_TRUE(first) << first.error().message;
  struct stat info {};
  for (const char* file : {"root.pem", "root.key", "issuer.pem", "issuer.key"}) {
    ASSERT_EQ(stat((folder_ + "/ca/" + file).c_str(), &info), 0) << file;
    EXPECT_EQ(info.st_mode & 0777u, 0600u) << file;
  }
  ASSERT_EQ(stat((folder_ + "/ca").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0700u);
  const auto again = open();
  EXPECT_EQ(again->fingerprint(), first->fingerprint());
  EXPECT_EQ(again->issuer(), first->issuer());
  EXPECT_TRUE(again->check(issue(*first)));
}

TEST_F(AuthorityTest, a_daemon_has_its_names_and_thirty_days) {
  const auto a = open();
  const CertificateFacts f = issue(*a);
  EXPECT_EQ(f.daemon, kMac);
  EXPECT_EQ(f.hosts, (std::vector<std::string>{"mac.hive.llorch.internal", "10.0.0.7"}));
  EXPECT_EQ(f.not_after, time_ + 24h * 30);
  EXPECT_LT(f.not_before, time_) << "the other clock may be a little late";
  EXPECT_GT(renewal_time(f), time_ + 24h * 19);
  EXPECT_LT(renewal_time(f), time_ + 24h * 21);
  time_ = f.not_after + 1s;
  EXPECT_NE(a->check(f).error().message.find("expired"), std::string::npos);
}

TEST_F(AuthorityTest, what_is_revoked_stays_so_and_a_later_one_is_good) {
  auto a = open();
  const CertificateFacts old = issue(*a), other = issue(*a, {DaemonKind::kHive, "attic"});
  ASSERT_TRUE(a->revoke(kMac));
  EXPECT_NE(a->check(old).error().message.find("llorch:hive:mac was revoked"), std::string::npos);
  EXPECT_TRUE(a->check(other));
  EXPECT_TRUE(a->is_revoked(kMac));
  const CertificateFacts joined_again = issue(*a);  // in the same second
  ASSERT_TRUE(a->readmit(kMac));
  EXPECT_FALSE(a->is_revoked(kMac));
  EXPECT_FALSE(a->check(old)) << "what was revoked stays so";
  EXPECT_TRUE(a->check(joined_again));
  auto later = open();
  EXPECT_FALSE(later->check(old)) << "after a restart too";
  EXPECT_TRUE(later->check(joined_again));
  ASSERT_EQ(later->revocations().size(), 1u);
  EXPECT_EQ(later->revocations()[0].daemon, "llorch:hive:mac");
  EXPECT_TRUE(later->revocations()[0].joined_again) << "kept on disk";
  ASSERT_TRUE(later->revoke(kMac));
  EXPECT_TRUE(later->is_revoked(kMac)) << "a second time";
  time_ += 24h * 401;
  EXPECT_TRUE(later->revocations().empty()) << "by now it would have ended anyway";
}

TEST_F(AuthorityTest, a_revocation_holds_though_certificates_last_shorter_now) {
  const CertificateFacts old = issue(*open());
  auto shorter =
      Authority::open(folder_ + "/ca", {.queen_id = "q", .daemon_lifetime = 1h, .clock = [this] { return time_; }});
  ASSERT_TRUE(shorter->revoke(kMac));
  EXPECT_FALSE(shorter->check(old));
  time_ += 2h;
  EXPECT_FALSE(shorter->check(old));
}

TEST_F(AuthorityTest, nobody_gets_a_name_inside_the_colony_that_is_not_its_own) {
  const auto a = open();
  const std::string request = make_certificate_request(make_private_key().value()).value();
  for (const char* host : {"queen.llorch.internal", "QUEEN.llorch.Internal", "queen.llorch.internal.",
                           "attic.hive.llorch.internal", "llorch.internal"}) {
    const auto made = a->sign(request, kMac, {host});
    ASSERT_FALSE(made) << host;
    EXPECT_EQ(made.error().code, ErrorCode::kForbidden);
  }
  EXPECT_TRUE(a->sign(request, kMac, {"notllorch.internal"}));
}

TEST_F(AuthorityTest, an_issuer_that_ends_is_made_anew_while_the_queen_runs_and_nothing_outlives_it) {
  auto a = open();
  const std::string before = a->issuer();
  time_ += 24h * 300;
  ASSERT_TRUE(a->renew_issuer());
  EXPECT_NE(a->issuer(), before);
  EXPECT_TRUE(a->check(issue(*a)));
  std::filesystem::remove(folder_ + "/ca/root.key");
  auto without = open();
  time_ = read_certificate(without->issuer())->not_after - 100s;
  const CertificateFacts short_lived = issue(*without);
  EXPECT_GT(renewal_time(short_lived), time_ + 30s) << "it is not due at once, again and again";
  time_ += 101s;
  EXPECT_FALSE(without->renew_issuer());
  EXPECT_FALSE(without->sign(make_certificate_request(make_private_key().value()).value(), kMac, {}));
}

TEST_F(AuthorityTest, what_does_not_belong_together_is_refused_and_nothing_is_overwritten) {
  ASSERT_TRUE(open());
  ASSERT_TRUE(open("other"));
  const auto text_of = [&](const std::string& file) {
    std::ifstream in(folder_ + "/" + file);
    return std::string((std::istreambuf_iterator<char>(in)), {});
  };
  const std::string key = text_of("ca/root.key");
  std::filesystem::rename(folder_ + "/ca/root.pem", folder_ + "/root.pem");
  const auto missing = open();
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find("root.pem is missing"), std::string::npos) << missing.error().message;
  EXPECT_EQ(text_of("ca/root.key"), key);
  std::filesystem::rename(folder_ + "/root.pem", folder_ + "/ca/root.pem");
  for (const char* file : {"issuer.pem", "issuer.key"})
    std::filesystem::copy_file(folder_ + "/other/" + file, folder_ + "/ca/" + file,
                               std::filesystem::copy_options::overwrite_existing);
  const auto mended = open();
  ASSERT_TRUE(mended) << "the root's key is there: another issuer is made";
  (void)issue(*mended);
}

TEST_F(AuthorityTest, who_only_looks_writes_nothing) {
  const auto looking = Authority::open(folder_ + "/ca", {.queen_id = "q", .read_only = true});
  EXPECT_FALSE(looking);
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/ca/root.pem"));
  ASSERT_TRUE(open());
  time_ += 24h * 300;
  const auto later =
      Authority::open(folder_ + "/ca", {.queen_id = "q", .clock = [this] { return time_; }, .read_only = true});
  ASSERT_TRUE(later);
  EXPECT_EQ(read_certificate(later->issuer())->not_before,
            read_certificate(open("x")->issuer())->not_before - 24h * 300);
}

TEST_F(AuthorityTest, the_root_may_be_away_while_the_issuer_lasts) {
  const auto first = open();
  std::filesystem::rename(folder_ + "/ca/root.key", folder_ + "/safe");
  const auto without = open();
  ASSERT_TRUE(without) << without.error().message;
  EXPECT_FALSE(without->has_root_key());
  EXPECT_FALSE(without->export_root());
  EXPECT_TRUE(first->check(issue(*without)));
  time_ += 24h * 364;
  EXPECT_LE(issue(*open()).not_after, read_certificate(first->issuer())->not_after) << "nothing outlives its issuer";
  time_ += 24h * 2;
  const auto ended = open();
  ASSERT_FALSE(ended);
  EXPECT_NE(ended.error().message.find("root.key"), std::string::npos) << ended.error().message;
  std::filesystem::rename(folder_ + "/safe", folder_ + "/ca/root.key");
  const auto renewed = open();
  ASSERT_TRUE(renewed);
  EXPECT_NE(renewed->issuer(), first->issuer());
  EXPECT_TRUE(renewed->check(issue(*renewed)));
}

TEST_F(AuthorityTest, a_second_queen_signs_under_the_same_root) {
  const auto first = open();
  ASSERT_TRUE(Authority::import_root(folder_ + "/second", first->export_root().value()));
  const auto second = open("second");
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->fingerprint(), first->fingerprint());
  EXPECT_NE(second->issuer(), first->issuer());
  EXPECT_TRUE(first->check(issue(*second)));
  EXPECT_EQ(Authority::import_root(folder_ + "/second", first->export_root().value()).error().code,
            ErrorCode::kResourceInUse);
  EXPECT_FALSE(Authority::import_root(folder_ + "/third", first->root()));
  EXPECT_FALSE(Authority::import_root(folder_ + "/third", first->root() + make_private_key().value()));
  EXPECT_FALSE(Authority::import_root(folder_ + "/third", ""));
}

TEST_F(AuthorityTest, files_that_cannot_be_used_are_named) {
  ASSERT_TRUE(open());
  const auto spoil = [&](const std::string& file, const std::string& text) {
    const std::string path = folder_ + "/ca/" + file;
    std::filesystem::copy_file(path, folder_ + "/kept", std::filesystem::copy_options::overwrite_existing);
    std::ofstream(path, std::ios::trunc) << text;
    const auto a = open();
    EXPECT_FALSE(a) << file;
    std::filesystem::copy_file(folder_ + "/kept", path, std::filesystem::copy_options::overwrite_existing);
    return a ? "" : a.error().message;
  };
  spoil("root.pem", "x");
  EXPECT_NE(spoil("issuer.key", "x").find("issuer.key"), std::string::npos);
  EXPECT_NE(spoil("root.key", make_private_key().value()).find("root.key"), std::string::npos);
  chmod((folder_ + "/ca/issuer.key").c_str(), 0644);
  EXPECT_FALSE(open()) << "a key that others can read";
}

}  // namespace
}  // namespace llorch::security
