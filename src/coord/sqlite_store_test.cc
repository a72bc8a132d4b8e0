// What only a file of SQLite has: restarts, its lock, and history that is dropped by itself.
#include "coord/sqlite_store.h"

#include <gtest/gtest.h>

#include "coord/sqlite_engine.h"
#include "coord/test_client.h"

namespace llorch::coord {
namespace {

#define ASSERT_OK(outcome) ASSERT_TRUE(outcome) << (outcome).error().message

Transaction put(std::string key, std::string value, LeaseId lease = 0) {
  return {{}, {{std::move(key), std::move(value), lease}}};
}

TEST(SqliteEngine, keys_revisions_and_leases_stay_over_a_restart) {
  TestFolder folder;
  Revision last = 0;
  LeaseId lease = 0;
  {
    const auto engine = SqliteEngine::open(folder.path + "/a.db");
    ASSERT_OK(engine);
    lease = (*engine)->grant(std::chrono::seconds(1))->id;
    ASSERT_OK((*engine)->commit(put("k", "1")));
    ASSERT_OK((*engine)->commit(put("k", "2", lease)));
    last = (*engine)->commit(put("free", "3"))->revision;
    pass_time(1100ms);
    EXPECT_EQ((*engine)->overdue(), lease);
  }
  const auto engine = SqliteEngine::open(folder.path + "/a.db");
  ASSERT_OK(engine);
  EXPECT_EQ((*engine)->revision(), last);
  EXPECT_EQ((*engine)->history({"", false, 2})->size(), 3u);
  // Nobody could renew it meanwhile: it has its whole time again.
  EXPECT_EQ((*engine)->overdue(), 0);
  ASSERT_OK((*engine)->keep_alive(lease));
  EXPECT_NE((*engine)->grant(std::chrono::seconds(1))->id, lease);
  const auto removed = (*engine)->revoke(lease);
  ASSERT_OK(removed);
  ASSERT_EQ(removed->events.size(), 1u);
  EXPECT_EQ(removed->events[0].entry.key, "k");
  EXPECT_EQ(removed->revision, last + 1);
  EXPECT_EQ((*engine)->range({.key = ""})->entries.size(), 1u);
}

TEST(SqliteEngine, two_do_not_have_one_file) {
  TestFolder folder;
  const auto first = SqliteEngine::open(folder.path + "/a.db");
  ASSERT_OK(first);
  const auto second = SqliteEngine::open(folder.path + "/a.db");
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kResourceInUse);
  EXPECT_NE(second.error().message.find(folder.path), std::string::npos) << second.error().message;
  EXPECT_FALSE(SqliteEngine::open(folder.path + "/none/a.db"));
}

TEST(SqliteEngine, compaction_keeps_what_is_and_drops_what_was) {
  TestFolder folder;
  const auto opened = SqliteEngine::open(folder.path + "/a.db");
  ASSERT_OK(opened);
  SqliteEngine& engine = **opened;
  ASSERT_OK(engine.commit(put("old", "stays")));
  ASSERT_OK(engine.commit(put("gone", "1")));
  ASSERT_OK(engine.commit({{}, {{"gone", std::nullopt}}}));
  for (int i = 0; i < 5; ++i) ASSERT_OK(engine.commit(put("k", std::to_string(i))));
  const Revision at = engine.revision() - 1;
  const auto before = engine.range({.key = "", .revision = at});
  ASSERT_OK(engine.compact(at));
  EXPECT_EQ(engine.range({.key = "", .revision = at})->entries, before->entries);
  EXPECT_EQ(engine.range({.key = "", .revision = at - 1}).error().problem, Problem::kCompacted);
  EXPECT_EQ(engine.range({.key = ""})->entries.size(), 2u);
  EXPECT_EQ(engine.history({"", false, at}).error().problem, Problem::kCompacted);
  EXPECT_EQ(engine.history({"", false, at + 1})->size(), 1u);
}

TEST(SqliteEngine, what_cannot_be_written_changes_nothing) {
  TestFolder folder;
  const auto opened = SqliteEngine::open(folder.path + "/a.db");
  ASSERT_OK(opened);
  SqliteEngine& engine = **opened;
  const auto first = engine.commit(put("k", "1"));
  ASSERT_OK(first);
  // The table is taken away behind its back.
  auto other = store::Database::open(folder.path + "/b.db", {"CREATE TABLE t(a)"});
  ASSERT_OK(other);
  std::filesystem::copy_file(folder.path + "/a.db", folder.path + "/c.db");
  {
    auto damaged = store::Database::open(folder.path + "/a.db", {"SELECT 1"});
    ASSERT_OK(damaged);
    ASSERT_OK((*damaged)->run("ALTER TABLE history RENAME TO away"));
  }
  const auto failed = engine.commit(put("k", "2"));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().problem, Problem::kUnavailable);
  EXPECT_NE(failed.error().message.find(folder.path), std::string::npos) << failed.error().message;
  EXPECT_EQ(engine.revision(), first->revision);
  auto mended = store::Database::open(folder.path + "/a.db", {"SELECT 1"});
  ASSERT_OK(mended);
  ASSERT_OK((*mended)->run("ALTER TABLE away RENAME TO history"));
  const auto second = engine.commit(put("k", "3"));
  ASSERT_OK(second);
  EXPECT_EQ(second->revision, first->revision + 1);
}

/// What a database's file is made to refuse, behind the back of whoever has it open.
void change(const std::string& path, const std::vector<std::string_view>& statements) {
  auto other = store::Database::open(path, {"SELECT 1"});
  ASSERT_OK(other);
  for (const std::string_view sql : statements) ASSERT_OK((*other)->run(sql));
}

TEST(SqliteStore, a_compaction_by_itself_that_fails_is_not_the_commits_failure) {
  TestFolder folder;
  const std::string path = folder.path + "/a.db";
  ASSERT_OK(SqliteEngine::open(path));
  // So many revisions that each commit compacts, which the file refuses.
  change(path, {"UPDATE numbers SET value = 50000 WHERE name = 'revision'",
                "CREATE TRIGGER full BEFORE UPDATE ON numbers WHEN NEW.name = 'compacted' "
                "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"});
  auto file = SqliteFile::open(path);
  ASSERT_OK(file);
  TestClient client([&](net::EventLoop& loop) { return make_sqlite_store(loop, *file); });
  const auto seen = client.watch({"k", true, 0});
  ASSERT_TRUE(wait_until([&] { return seen->connected(); }));
  const auto put = client.put("k", "v");
  ASSERT_OK(put);
  EXPECT_EQ(*put, 50001);
  ASSERT_TRUE(wait_until([&] { return seen->all().size() == 1; }));
  ASSERT_OK(client.range({.key = "k", .revision = 1}));
  // It is tried again.
  change(path, {"DROP TRIGGER full"});
  ASSERT_OK(client.put("k", "w"));
  const auto old = client.range({.key = "k", .revision = 1});
  ASSERT_FALSE(old);
  EXPECT_EQ(old.error().problem, Problem::kCompacted);
}

TEST(SqliteEngine, a_transaction_whose_end_fails_may_have_happened) {
  TestFolder folder;
  const std::string path = folder.path + "/a.db";
  const auto engine = SqliteEngine::open(path);
  ASSERT_OK(engine);
  const Revision before = (*engine)->revision();
  // A reference to nothing that is looked at when the transaction ends.
  change(path, {"CREATE TABLE refers(lease INTEGER REFERENCES leases(id) DEFERRABLE INITIALLY DEFERRED)",
                "CREATE TRIGGER refer AFTER INSERT ON history BEGIN INSERT INTO refers VALUES(12345); END"});
  const auto failed = (*engine)->commit(put("k", "1"));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().problem, Problem::kUnavailable);
  EXPECT_TRUE(failed.error().may_have_happened) << failed.error().message;
  EXPECT_EQ((*engine)->revision(), before);
  change(path, {"DROP TRIGGER refer"});
  const auto done = (*engine)->commit(put("k", "2"));
  ASSERT_OK(done);
  EXPECT_EQ(done->revision, before + 1);
}

TEST(SqliteStore, a_lease_ends_although_no_loop_runs) {
  TestFolder folder;
  auto file = SqliteFile::open(folder.path + "/a.db");
  ASSERT_OK(file);
  TestClient client([&](net::EventLoop& loop) { return make_sqlite_store(loop, *file); });
  const auto lease = client.grant(1s);
  ASSERT_OK(lease);
  ASSERT_OK(client.put("k", "v", {}, lease->id));
  const auto seen = client.watch({"k", true, 0});
  client.on_loop([] { pass_time(1500ms); });
  EXPECT_FALSE(client.get("k")->entry);
  EXPECT_EQ(seen->all().size(), 1u);
}

}  // namespace
}  // namespace llorch::coord
