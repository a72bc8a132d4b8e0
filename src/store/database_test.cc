#include "store/database.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

namespace llorch::store {
namespace {

class DatabaseTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(directory_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  [[nodiscard]] std::string path() const { return directory_ + "/a.db"; }
  std::string directory_ = "/tmp/llorch-db-XXXXXX";
};

TEST_F(DatabaseTest, values_come_back_and_are_never_read_as_sql) {
  const std::string odd = "'); DROP TABLE t; --\n\"☃";
  {
    const auto db = Database::open(path(), {"CREATE TABLE t(a TEXT, b INTEGER, c TEXT)"});
    ASSERT_TRUE(db) << db.error().message;
    ASSERT_TRUE((*db)->run("INSERT INTO t VALUES(?, ?, ?)", {odd, std::int64_t{1} << 60, nullptr}));
  }
  struct stat s {};
  ASSERT_EQ(stat(path().c_str(), &s), 0);
  EXPECT_EQ(s.st_mode & 0777, 0600u);
  const auto db = Database::open(path(), {"CREATE TABLE t(a TEXT, b INTEGER, c TEXT)", "ALTER TABLE t ADD d INTEGER"});
  ASSERT_TRUE(db) << db.error().message;
  const auto rows = (*db)->run("SELECT a, b, c, d FROM t");
  ASSERT_TRUE(rows) << rows.error().message;
  ASSERT_EQ(rows->size(), 1u);
  EXPECT_EQ((*rows)[0].text(0), odd);
  EXPECT_EQ((*rows)[0].integer(1), std::int64_t{1} << 60);
  EXPECT_EQ((*rows)[0].text(2), "");
}

TEST_F(DatabaseTest, a_schema_from_the_future_and_a_broken_statement_are_refused) {
  { ASSERT_TRUE(Database::open(path(), {"CREATE TABLE t(a)", "CREATE TABLE u(a)"})); }
  const auto older = Database::open(path(), {"CREATE TABLE t(a)"});
  ASSERT_FALSE(older);
  EXPECT_NE(older.error().message.find("version 2"), std::string::npos) << older.error().message;
  const auto db = Database::open(path(), {"CREATE TABLE t(a)", "CREATE TABLE u(a)"});
  ASSERT_TRUE(db);
  const auto bad = (*db)->run("SELECT x FROM nowhere");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("nowhere"), std::string::npos) << bad.error().message;
  // A migration that fails leaves nothing behind.
  EXPECT_FALSE(Database::open(directory_ + "/b.db", {"CREATE TABLE t(a); CREATE TABLE t(a)"}));
  EXPECT_TRUE(Database::open(directory_ + "/b.db", {"CREATE TABLE t(a)"}));
}

}  // namespace
}  // namespace llorch::store
