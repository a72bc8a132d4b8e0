// Keys held in memory: the same on SQLite and on etcd, over compaction, lost connections and writers that meet.
#include "coord/mirror.h"

#include <gtest/gtest.h>

#include <atomic>

#include "coord/sqlite_store.h"
#include "coord/test_client.h"
#include "coord/test_proxy.h"

namespace llorch::coord {
namespace {

#define ASSERT_OK(outcome) ASSERT_TRUE(outcome) << (outcome).error().message

/// A mirror on a client's loop, with what it has told.
class Held {
 public:
  explicit Held(TestClient& client, std::string prefix = "a/") : client_(client) {
    client_.on_loop([&] {
      mirror_ = client_.own(std::make_unique<Mirror>(*client_.store, std::move(prefix),
                                                     Mirror::Callbacks{[this](const std::vector<Event>& changes) {
                                                                         for (const Event& e : changes) take(e);
                                                                       },
                                                                       {}}));
    });
  }
  ~Held() { client_.drop_owned(); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  template<class T>
  T on_loop(const std::function<T(Mirror&)>& look) {
    T out{};
    client_.on_loop([&] { out = look(*mirror_); });
    return out;
  }
  bool ready() {
    return on_loop<bool>([](Mirror& m) { return m.ready(); });
  }
  bool in_contact() {
    return on_loop<bool>([](Mirror& m) { return m.in_contact(); });
  }
  using Values = std::map<std::string, std::string>;
  Values values() {
    return on_loop<Values>([](Mirror& m) {
      Values out;
      for (const auto& [key, entry] : m.entries()) out[key] = entry.value;
      return out;
    });
  }
  /// What its callbacks have told, put together: the same as what it holds, where none was left out.
  Values told() {
    return on_loop<Values>([this](Mirror&) { return told_; });
  }
  int times_told() {
    return on_loop<int>([this](Mirror&) { return times_told_; });
  }
  testing::AssertionResult becomes(const Values& wanted) {
    if (wait_until([&] { return values() == wanted; })) return testing::AssertionSuccess();
    return testing::AssertionFailure() << testing::PrintToString(values());
  }
  Status update(const std::string& key, Mirror::Change change) {
    auto promise = std::make_shared<std::promise<Status>>();
    auto future = promise->get_future();
    client_.on_loop([&] {
      mirror_->update(key, std::move(change), [this, key, promise](const Status& s) {
        held_when_done_ = mirror_->find(key) ? mirror_->find(key)->value : "";
        promise->set_value(s);
      });
    });
    if (future.wait_for(20s) == std::future_status::ready) return future.get();
    ADD_FAILURE() << "no answer";
    return {};
  }
  [[nodiscard]] const std::string& held_when_done() const { return held_when_done_; }

 private:
  void take(const Event& e) {
    ++times_told_;
    if (e.removed)
      told_.erase(e.entry.key);
    else
      told_[e.entry.key] = e.entry.value;
  }
  TestClient& client_;
  Mirror* mirror_ = nullptr;
  Values told_;
  int times_told_ = 0;
  std::string held_when_done_;
};

class Mirrors : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "etcd") {
      if (!etcd_is_installed()) GTEST_SKIP() << kNoEtcd;
      etcd_ = std::make_unique<EtcdCluster>();
      make_ = [this](net::EventLoop& loop) { return make_etcd_store(loop, {.endpoints = etcd_->endpoints()}); };
      return;
    }
    auto file = SqliteFile::open(folder_.path + "/a.db");
    ASSERT_OK(file);
    make_ = [f = *file](net::EventLoop& loop) { return make_sqlite_store(loop, f); };
  }
  [[nodiscard]] std::unique_ptr<TestClient> connect() const { return std::make_unique<TestClient>(make_); }

  TestFolder folder_;
  std::unique_ptr<EtcdCluster> etcd_;
  TestClient::Make make_;
};

TEST_P(Mirrors, hold_what_was_there_and_what_comes) {
  const auto writer = connect(), reader = connect();
  Held::Values wanted;
  Transaction many;
  for (int i = 0; i < 120; ++i) many.writes.push_back({fmt::format("a/{:04}", i), std::to_string(i)});
  for (const Write& w : many.writes) wanted[w.key] = *w.value;
  ASSERT_OK(writer->commit(many));
  ASSERT_OK(writer->put("b/elsewhere", "x"));
  Held held(*reader);
  ASSERT_TRUE(held.becomes(wanted));
  ASSERT_OK(writer->put("a/new", "1"));
  ASSERT_OK(writer->remove("a/0003"));
  ASSERT_OK(writer->put("b/elsewhere", "y"));
  wanted["a/new"] = "1", wanted.erase("a/0003");
  ASSERT_TRUE(held.becomes(wanted));
  EXPECT_EQ(held.told(), wanted);
  EXPECT_TRUE(held.in_contact());
}

TEST_P(Mirrors, read_more_than_one_page_at_one_revision) {
  const auto writer = connect(), reader = connect();
  Held::Values wanted;
  for (int part = 0; part < 18; ++part) {
    Transaction some;
    for (int i = 0; i < 125; ++i) some.writes.push_back({fmt::format("a/{:02}-{:03}", part, i), "x"});
    for (const Write& w : some.writes) wanted[w.key] = *w.value;
    ASSERT_OK(writer->commit(some));
  }
  ASSERT_GT(wanted.size(), static_cast<std::size_t>(2 * kPageEntriesMax));
  Held held(*reader);
  ASSERT_TRUE(held.becomes(wanted));
  EXPECT_EQ(held.told(), wanted);
  EXPECT_EQ(static_cast<std::size_t>(held.times_told()), wanted.size());
}

TEST_P(Mirrors, an_update_is_done_when_it_is_held) {
  const auto client = connect();
  Held held(*client);
  ASSERT_TRUE(held.update("a/k", [](const std::string* now) { return now ? "again" : "first"; }));
  EXPECT_EQ(held.held_when_done(), "first");
  ASSERT_TRUE(held.update("a/k", [](const std::string* now) { return *now + " and second"; }));
  EXPECT_EQ(held.held_when_done(), "first and second");
  ASSERT_TRUE(held.update("a/k", [](const std::string*) { return std::nullopt; }));
  EXPECT_EQ(held.held_when_done(), "");
  EXPECT_FALSE(client->get("a/k")->entry);
  const Status refused = held.update("a/k", [](const std::string*) { return fail(ErrorCode::kForbidden, "no"); });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "no");
}

TEST_P(Mirrors, of_many_that_change_one_key_none_is_lost) {
  const auto one = connect(), other = connect();
  Held a(*one), b(*other);
  ASSERT_TRUE(a.becomes({}) && b.becomes({}));
  const auto more = [](const std::string* now) { return std::to_string((now ? std::stoi(*now) : 0) + 1); };
  std::thread beside([&] {
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(b.update("a/n", more));
  });
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(a.update("a/n", more));
  beside.join();
  EXPECT_TRUE(a.becomes({{"a/n", "40"}}));
}

TEST_P(Mirrors, hold_no_key_of_a_lease_that_has_ended) {
  const auto client = connect();
  const auto lease = client->grant(60s);
  ASSERT_OK(lease);
  ASSERT_OK(client->put("a/leased", "x", 0, lease->id));
  Held held(*client);
  ASSERT_TRUE(held.becomes({{"a/leased", "x"}}));
  ASSERT_OK(client->revoke(lease->id));
  EXPECT_TRUE(held.becomes({}));
}

INSTANTIATE_TEST_SUITE_P(Stores, Mirrors, testing::Values("sqlite", "etcd"),
                         [](const auto& info) { return info.param; });

/// A mirror behind a proxy, with a store that soon sees that nothing comes.
class MirrorOverEtcd : public testing::Test {
 protected:
  void SetUp() override {
    if (!etcd_is_installed()) GTEST_SKIP() << kNoEtcd;
    cluster_.emplace();
    proxy_.emplace(cluster_->port(0));
    direct_.emplace(
        [this](net::EventLoop& loop) { return make_etcd_store(loop, {.endpoints = cluster_->endpoints()}); });
    through_.emplace([this](net::EventLoop& loop) {
      return make_etcd_store(loop, {.endpoints = {{"127.0.0.1", proxy_->port}},
                                    .connect_timeout = 500ms,
                                    .answer_timeout = 800ms,
                                    .pulse = 200ms,
                                    .silence = 800ms});
    });
  }
  std::optional<EtcdCluster> cluster_;
  std::optional<TestProxy> proxy_;
  std::optional<TestClient> direct_, through_;
};

TEST_F(MirrorOverEtcd, what_was_compacted_while_it_was_away_is_read_again) {
  ASSERT_OK(direct_->put("a/stays", "1"));
  ASSERT_OK(direct_->put("a/goes", "1"));
  ASSERT_OK(direct_->put("a/changes", "1"));
  Held held(*through_);
  ASSERT_TRUE(held.becomes({{"a/stays", "1"}, {"a/goes", "1"}, {"a/changes", "1"}}));
  proxy_->frozen = true;
  ASSERT_TRUE(wait_until([&] { return !held.in_contact(); }));
  EXPECT_GT(held.on_loop<std::int64_t>([](Mirror& m) { return m.lag().count(); }), 0);
  const int told = held.times_told();
  ASSERT_OK(direct_->remove("a/goes"));
  ASSERT_OK(direct_->put("a/changes", "2"));
  const auto last = direct_->put("a/new", "1");
  ASSERT_OK(last);
  ASSERT_OK(direct_->compact(*last));
  EXPECT_EQ(held.values().size(), 3U) << "what was read last stays";
  proxy_->frozen = false;
  ASSERT_TRUE(held.becomes({{"a/stays", "1"}, {"a/changes", "2"}, {"a/new", "1"}}));
  EXPECT_EQ(held.told(), held.values());
  EXPECT_EQ(held.times_told() - told, 3) << "only what differs is told";
  ASSERT_TRUE(wait_until([&] { return held.in_contact(); }));
  EXPECT_EQ(held.on_loop<std::int64_t>([](Mirror& m) { return m.lag().count(); }), 0);
  ASSERT_OK(direct_->put("a/new", "2"));
  EXPECT_TRUE(held.becomes({{"a/stays", "1"}, {"a/changes", "2"}, {"a/new", "2"}})) << "it goes on watching";
}

TEST_F(MirrorOverEtcd, one_that_begins_without_a_store_begins_when_that_is_there) {
  ASSERT_OK(direct_->put("a/k", "1"));
  proxy_->frozen = true;
  Held held(*through_);
  ASSERT_TRUE(wait_until(
      [&] { return held.on_loop<std::string>([](Mirror& m) { return m.problem(); }).contains("127.0.0.1"); }));
  EXPECT_FALSE(held.ready());
  const Status refused = held.update("a/k", [](const std::string*) { return "2"; });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kStoreUnavailable);
  EXPECT_NE(refused.error().message.find(fmt::format("127.0.0.1:{}", proxy_->port)), std::string::npos)
      << refused.error().message;
  proxy_->frozen = false;
  EXPECT_TRUE(wait_until([&] { return held.ready() && held.values().contains("a/k"); }));
}

}  // namespace
}  // namespace llorch::coord
