// Certificates in files: read at the start, read again when they change, and kept when what follows is no good.
#include "service/tls_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/thread_role.h"

namespace llorch::service {
namespace {

using namespace std::chrono_literals;
using security::Authority;
using security::DaemonKind;

class TlsFilesTest : public ::testing::Test {
 protected:
  TlsFilesTest() { std::filesystem::create_directory(folder_); }
  ~TlsFilesTest() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] Authority authority() const { return Authority::open(folder_ + "/ca", {.queen_id = "q"}).value(); }
  const std::string folder_ = (std::filesystem::temp_directory_path() / fmt::format("tls-files-{}", getpid())).string();
  const std::string own_ = folder_ + "/tls";
  net::EventLoop loop_;
};

TEST_F(TlsFilesTest, nothing_is_there_before_joining) {
  TlsFiles files(loop_, {"", "", own_, false});
  ASSERT_TRUE(files.load());
  EXPECT_FALSE(files.now().server || files.now().client || files.now().own);
}

TEST_F(TlsFilesTest, a_renewed_certificate_is_read_and_a_broken_one_is_told) {
  const Authority a = authority();
  const security::DaemonName mac{DaemonKind::kHive, "mac"};
  const auto first = a.make_identity(mac, {}).value();
  EXPECT_EQ(TlsFiles::root_of(first.chain), a.root());
  ASSERT_TRUE(TlsFiles::store(own_, first, a.root()));
  TlsFiles files(loop_, {"", "", own_, false});
  ASSERT_TRUE(files.load());
  ASSERT_TRUE(files.now().server && files.now().client && files.now().own);
  const std::string serial = files.now().own->serial;
  const auto server = files.now().server;

  int problems = 0, changes = 0;
  files.watch(
      1ms,
      [&] {
        ++changes;
        loop_.stop();
      },
      [&](const Error& e) {
        ++problems;
        EXPECT_NE(e.message.find("the colony's certificate"), std::string::npos) << e.message;
        loop_.stop();
      });
  ASSERT_TRUE(TlsFiles::store(own_, {first.private_key, a.make_identity(mac, {})->chain}, a.root()));
  loop_.run();  // another key's certificate
  EXPECT_EQ(changes, 0);
  EXPECT_EQ(files.now().server, server) << "what was read before stays";
  ASSERT_TRUE(TlsFiles::store(own_, a.make_identity(mac, {}).value(), a.root()));
  const int told = problems;
  EXPECT_GT(told, 0);
  while (changes == 0) loop_.run();
  EXPECT_NE(files.now().own->serial, serial);
  EXPECT_NE(files.now().server, server);
}

TEST_F(TlsFilesTest, flags_that_cannot_be_used_are_named) {
  TlsFiles files(loop_, {folder_ + "/none.pem", folder_ + "/none.key", "", false});
  const Status loaded = files.load();
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().message.find("--tls-cert"), std::string::npos) << loaded.error().message;
}

}  // namespace
}  // namespace llorch::service
