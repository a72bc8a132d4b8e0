// etcd with members killed, paused and cut off; with passwords; over TLS.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>

#include "coord/test_client.h"
#include "coord/test_proxy.h"
#include "security/authority.h"

namespace llorch::coord {
namespace {

#define ASSERT_OK(outcome) ASSERT_TRUE(outcome) << (outcome).error().message

TestClient::Make store_at(EtcdOptions options) {
  return [options](net::EventLoop& loop) { return make_etcd_store(loop, options); };
}
EtcdOptions quick(std::vector<net::Url> endpoints) {
  return {.endpoints = std::move(endpoints),
          .connect_timeout = 500ms,
          .answer_timeout = 1500ms,
          .pulse = 300ms,
          .silence = 1200ms};
}
net::Url at(std::uint16_t port) { return {"127.0.0.1", port}; }

class EtcdFaults : public testing::Test {
 protected:
  void SetUp() override {
    if (!etcd_is_installed()) GTEST_SKIP() << kNoEtcd;
  }
};

/// Until it is written: while members elect, writes may fail, and say so.
testing::AssertionResult put_soon(TestClient& client, const std::string& key, const std::string& value) {
  std::string why;
  if (wait_until([&] {
        const auto put = client.put(key, value);
        if (!put) why = put.error().message;
        return put.has_value();
      }))
    return testing::AssertionSuccess();
  return testing::AssertionFailure() << why;
}

/// Revisions grow, and each value that was written stands in its place.
void expect_all_in_order(const std::vector<Event>& events) {
  for (std::size_t i = 1; i < events.size(); ++i)
    EXPECT_GT(events[i].entry.modified, events[i - 1].entry.modified) << "event " << i;
}

TEST_F(EtcdFaults, of_three_members_one_may_be_killed_and_one_paused) {
  EtcdCluster cluster(3);
  TestClient client(store_at(quick(cluster.endpoints())));
  ASSERT_TRUE(put_soon(client, "k", "0"));
  const auto seen = client.watch({"k", true, 1});
  std::atomic<int> granted = 0;
  client.on_loop([&] {
    client.own(std::make_unique<KeptLease>(
        *client.store, 10s,
        KeptLease::Callbacks{[&](LeaseId) { ++granted; }, [&](const std::string& why) { ADD_FAILURE() << why; }, {}}));
  });
  int values = 0;
  const auto works = [&](const std::string& what) {
    SCOPED_TRACE(what);
    const std::string value = std::to_string(++values);
    ASSERT_TRUE(put_soon(client, "k", value));
    const auto found = client.get("k");
    ASSERT_OK(found);
    EXPECT_EQ(found->entry->value, value);
    ASSERT_TRUE(wait_until([&] {
      const auto all = seen->all();
      return !all.empty() && all.back().entry.value == value;
    })) << "the watch does not bring "
        << value;
  };
  works("all there");
  for (const int next : {0, 1}) {  // the leader, and another one
    const int i = (cluster.leader() + next) % 3;
    cluster.kill_now(i);
    works(fmt::format("member {} killed, {} behind the leader", i, next));
    cluster.start(i);
    ASSERT_TRUE(wait_until([&] { return !cluster.post(i, "/v3/kv/range", R"({"key":"YQ=="})").empty(); }));
  }
  for (const int next : {0, 1}) {
    const int i = (cluster.leader() + next) % 3;
    cluster.pause(i);
    works(fmt::format("member {} paused, {} behind the leader", i, next));
    cluster.resume(i);
    ASSERT_TRUE(wait_until([&] { return !cluster.post(i, "/v3/kv/range", R"({"key":"YQ=="})").empty(); }));
  }
  expect_all_in_order(seen->all());
  EXPECT_TRUE(seen->ended().empty());
  EXPECT_EQ(granted, 1);
}

TEST_F(EtcdFaults, one_endpoint_that_answers_is_enough) {
  EtcdCluster cluster;
  // Each store begins with another one of its endpoints.
  for (int i = 0; i < 8; ++i) {
    TestClient client(store_at(quick({at(1), cluster.endpoints()[0], at(2)})));
    ASSERT_OK(client.put("k", std::to_string(i)));
    EXPECT_EQ(client.get("k")->entry->value, std::to_string(i));
    const auto seen = client.watch({"k", true, 1});
    ASSERT_TRUE(wait_until([&] { return seen->all().size() == static_cast<std::size_t>(i) + 1; }));
  }
}

TEST_F(EtcdFaults, a_watch_of_which_nothing_changes_stays_connected) {
  EtcdCluster cluster;
  std::vector<std::unique_ptr<TestClient>> clients;
  std::vector<std::shared_ptr<Seen>> seen;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<TestClient>(store_at(quick(cluster.endpoints()))));
    seen.push_back(clients.back()->watch({"k", true, 0}));
  }
  const auto begin = std::chrono::steady_clock::now();
  pass_time(2000ms);
  for (const auto& s : seen) {
    EXPECT_TRUE(s->connected());
    EXPECT_EQ(s->times_lost(), 0u);
  }
  // The pulse, each 300 ms: once for all, not once for each of four.
  const auto found = etcd::read_object(
      cluster.post(0, "/v3/kv/range", fmt::format(R"({{"key":"{}"}})", etcd::to_base64("/llorch/pulse"))));
  ASSERT_TRUE(found);
  const auto written = etcd::read_number(found->at("kvs").as_array().at(0).as_object(), "version");
  ASSERT_TRUE(written);
  // Each writes one when it begins. Alone they would write four times as often.
  EXPECT_LE(*written, 4 + 2 * ((std::chrono::steady_clock::now() - begin) / 300ms));
}

TEST_F(EtcdFaults, without_a_majority_the_error_names_who_was_asked) {
  EtcdCluster cluster(2);
  EtcdOptions options = quick(cluster.endpoints());
  options.answer_timeout = 700ms;
  TestClient client(store_at(options));
  ASSERT_TRUE(put_soon(client, "k", "1"));
  cluster.kill_now(0);
  const auto found = client.get("k");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().problem, Problem::kUnavailable);
  for (int i = 0; i < 2; ++i)
    EXPECT_NE(found.error().message.find(std::to_string(cluster.port(i))), std::string::npos) << found.error().message;
  const auto put = client.put("k", "2");
  ASSERT_FALSE(put);
  EXPECT_TRUE(put.error().may_have_happened) << "the member that is there has taken it";
  cluster.kill_now(1);
  const auto nobody = client.put("k", "3");
  ASSERT_FALSE(nobody);
  EXPECT_FALSE(nobody.error().may_have_happened) << nobody.error().message;
}

TEST_F(EtcdFaults, a_silent_watch_is_opened_elsewhere_and_loses_nothing) {
  EtcdCluster cluster;
  TestProxy first(cluster.port(0)), second(cluster.port(0));
  TestClient writer(store_at(quick(cluster.endpoints())));
  TestClient client(store_at(quick({at(first.port), at(second.port)})));
  ASSERT_OK(writer.put("k", "0"));
  const auto seen = client.watch({"k", true, 1});
  ASSERT_TRUE(wait_until([&] { return seen->connected() && seen->all().size() == 1; }));
  // Both are frozen: whichever the watch has. Nobody tells that a connection brings nothing any more.
  first.frozen = second.frozen = true;
  for (int i = 1; i <= 5; ++i) ASSERT_OK(writer.put("k", std::to_string(i)));
  ASSERT_TRUE(wait_until([&] { return !seen->connected(); }, 4s)) << "its silence is not noticed";
  EXPECT_EQ(seen->all().size(), 1u);
  second.frozen = false;
  ASSERT_TRUE(wait_until([&] { return seen->all().size() == 6; }));
  EXPECT_TRUE(seen->connected());
  for (int i = 0; i <= 5; ++i) EXPECT_EQ(seen->all()[static_cast<std::size_t>(i)].entry.value, std::to_string(i));
  first.frozen = false;
}

/// A watch, and how often it has told that its connection was lost.
struct Silent {
  std::unique_ptr<Watch> watch;
  int times_lost = 0;
};

/// Two watches that become silent at one time; whichever says so first does `what` with the other one. Returns how
/// often they have told.
int times_lost_of_two(TestClient& client, TestProxy& proxy, const std::function<void(Silent& other)>& what) {
  Silent two[2];
  std::atomic<int> connected = 0;
  client.on_loop([&] {
    for (Silent& one : two) {
      Silent& other = two[&one == &two[0]];
      one.watch = client.store->watch({"k", true, 0}, {{}, {}, [&](bool there, const std::string&) {
                                                         if (there) {
                                                           ++connected;
                                                         } else if (++one.times_lost + other.times_lost == 1) {
                                                           what(other);
                                                         }
                                                       }});
    }
  });
  EXPECT_TRUE(wait_until([&] { return connected == 2; }));
  proxy.frozen = true;
  int lost = 0;
  const auto look = [&] { client.on_loop([&] { lost = two[0].times_lost + two[1].times_lost; }); };
  EXPECT_TRUE(wait_until([&] { return look(), lost > 0; }));
  pass_time(300ms);
  look();
  proxy.frozen = false;
  client.on_loop([&] { two[0].watch.reset(), two[1].watch.reset(); });
  return lost;
}

TEST_F(EtcdFaults, a_watch_that_another_silent_one_destroys_says_nothing_more) {
  EtcdCluster cluster;
  TestProxy proxy(cluster.port(0));
  TestClient client(store_at(quick({at(proxy.port)})));
  EXPECT_EQ(times_lost_of_two(client, proxy, [](Silent& other) { other.watch.reset(); }), 1);
}

TEST_F(EtcdFaults, a_store_that_a_silent_watch_destroys_is_not_used_any_more) {
  EtcdCluster cluster;
  TestProxy proxy(cluster.port(0));
  TestClient client(store_at(quick({at(proxy.port)})));
  EXPECT_EQ(times_lost_of_two(client, proxy, [&](Silent&) { client.store.reset(); }), 1);
}

TEST_F(EtcdFaults, a_watch_that_is_cut_again_and_again_brings_every_change_once) {
  EtcdCluster cluster;
  TestProxy proxy(cluster.port(0));
  TestClient writer(store_at(quick(cluster.endpoints())));
  TestClient client(store_at(quick({at(proxy.port)})));
  const auto from_now = client.watch({"", false, 0});
  ASSERT_TRUE(wait_until([&] { return from_now->connected(); }));
  const auto seen = client.watch({"", false, 1});
  constexpr int kChanges = 120;
  for (int i = 0; i < kChanges; ++i) {
    ASSERT_OK(writer.commit({{}, {{"a", std::to_string(i)}, {"b", std::to_string(i)}}}));
    if (i % 15 == 0) proxy.cut();
    if (i % 15 == 7) proxy.answer_bytes_left = 40 + i;
    if (i % 5 == 0) pass_time(10ms);
    const auto all = [&](Seen& s) { return s.all().size() == 2 * (static_cast<std::size_t>(i) + 1); };
    if (i % 15 == 14) ASSERT_TRUE(wait_until([&] { return all(*seen) && all(*from_now); }));
  }
  proxy.answer_bytes_left = -1;
  for (const auto& s : {from_now, seen}) {
    ASSERT_TRUE(wait_until([&] { return s->all().size() == 2 * kChanges; })) << s->all().size();
    const auto events = s->all();
    for (std::size_t i = 0; i < events.size(); ++i) {
      EXPECT_EQ(events[i].entry.value, std::to_string(i / 2));
      EXPECT_EQ(events[i].entry.key, i % 2 == 0 ? "a" : "b");
    }
  }
  EXPECT_GE(seen->times_lost(), 5u) << "the proxy has cut nothing";
}

TEST_F(EtcdFaults, changes_that_fill_several_messages_come_by_revision) {
  EtcdCluster cluster;
  TestClient client(store_at(quick(cluster.endpoints())));
  constexpr std::size_t kTransactions = 8, kWrites = 100, kValueBytes = 12'000;
  for (std::size_t i = 0; i < kTransactions; ++i) {
    Transaction t;
    for (std::size_t k = 0; k < kWrites; ++k)
      t.writes.push_back({fmt::format("k{}", k), std::string(kValueBytes, 'v')});
    ASSERT_OK(client.commit(t));
  }
  std::atomic<std::size_t> events = 0, torn = 0;
  client.on_loop([&] {
    client.own(client.store->watch({"", false, 1}, {[&](const std::vector<Event>& some) {
                                                      events += some.size();
                                                      torn += some.size() % kWrites != 0;
                                                    },
                                                    {},
                                                    {}}));
  });
  ASSERT_TRUE(wait_until([&] { return events == kTransactions * kWrites; })) << events;
  EXPECT_EQ(torn, 0u);
  client.drop_owned();
}

TEST_F(EtcdFaults, a_watch_that_was_away_while_its_revisions_were_compacted_says_so) {
  EtcdCluster cluster;
  TestProxy proxy(cluster.port(0));
  TestClient writer(store_at(quick(cluster.endpoints())));
  TestClient client(store_at(quick({at(proxy.port)})));
  ASSERT_OK(writer.put("k", "0"));
  const auto seen = client.watch({"k", true, 1});
  ASSERT_TRUE(wait_until([&] { return seen->all().size() == 1; }));
  proxy.frozen = true;
  Revision last = 0;
  for (int i = 0; i < 5; ++i) last = writer.put("k", "later").value();
  ASSERT_OK(writer.compact(last));
  ASSERT_TRUE(wait_until([&] { return !seen->connected(); }));
  proxy.frozen = false;
  ASSERT_TRUE(wait_until([&] { return !seen->ended().empty(); }));
  EXPECT_EQ(seen->ended()[0].problem, Problem::kCompacted);
  EXPECT_EQ(seen->all().size(), 1u);
}

TEST_F(EtcdFaults, a_write_without_an_answer_may_have_happened_and_is_not_sent_again) {
  EtcdCluster cluster;
  TestProxy first(cluster.port(0)), second(cluster.port(0));
  TestClient direct(store_at(quick(cluster.endpoints())));
  TestClient client(store_at(quick({at(first.port), at(second.port)})));
  ASSERT_OK(client.put("k", "0"));
  const auto seen = direct.watch({"k", true, 1});
  first.answer_bytes_left = second.answer_bytes_left = 0;
  const auto put = client.put("k", "1");
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().problem, Problem::kUnavailable);
  EXPECT_TRUE(put.error().may_have_happened);
  first.answer_bytes_left = second.answer_bytes_left = -1;
  ASSERT_OK(direct.put("k", "2"));
  ASSERT_TRUE(wait_until([&] { return !seen->all().empty() && seen->all().back().entry.value == "2"; }));
  EXPECT_EQ(seen->all().size(), 3u) << "0, 1 once, 2";
  // Reads are.
  first.answer_bytes_left = 0;
  second.answer_bytes_left = -1;
  ASSERT_OK(client.get("k"));
}

TEST_F(EtcdFaults, endpoints_of_another_cluster_are_not_written_to) {
  EtcdCluster right, wrong;
  TestClient client(store_at(quick(right.endpoints())));
  ASSERT_OK(client.put("k", "right"));
  auto both = right.endpoints();
  both.push_back(wrong.endpoints()[0]);
  TestClient mixed(store_at(quick(both)));
  ASSERT_OK(mixed.put("k", "first"));
  const bool first_is_right = client.get("k")->entry->value == "first";
  (first_is_right ? right : wrong).kill_now(0);
  const auto put = mixed.put("k", "second");
  ASSERT_FALSE(put);
  EXPECT_NE(put.error().message.find("another cluster"), std::string::npos) << put.error().message;
}

class EtcdPasswords : public EtcdFaults {
 protected:
  void SetUp() override {
    EtcdFaults::SetUp();
    if (IsSkipped()) return;
    const auto post = [&](const std::string& path, const std::string& body) {
      ASSERT_NE(cluster().post(0, "/v3/auth/" + path, body), "") << path;
    };
    post("user/add", R"({"name":"root","password":"r"})");
    post("role/add", R"({"name":"root"})");
    post("user/grant", R"({"user":"root","role":"root"})");
    post("user/add", R"({"name":"queen","password":"a:b"})");
    post("role/add", R"({"name":"queen"})");
    const auto b64 = [](std::string_view text) { return etcd::to_base64(text); };
    post("role/grant",
         fmt::format(R"({{"name":"queen","perm":{{"permType":"READWRITE","key":"{}","range_end":"{}"}}}})",
                     b64("/llorch/"), b64("/llorch0")));
    post("user/grant", R"({"user":"queen","role":"queen"})");
    post("enable", "{}");
  }
  EtcdCluster& cluster() {
    if (!cluster_) cluster_ = std::make_unique<EtcdCluster>();
    return *cluster_;
  }
  EtcdOptions options(std::string user, std::string password) {
    EtcdOptions o = quick(cluster().endpoints());
    o.credentials = Credentials{std::move(user), std::move(password)};
    return o;
  }

 private:
  std::unique_ptr<EtcdCluster> cluster_;
};

TEST_F(EtcdPasswords, open_what_the_user_may_and_nothing_else) {
  TestClient client(store_at(options("queen", "a:b")));
  ASSERT_OK(client.put("k", "1"));
  const auto seen = client.watch({"k", true, 1});
  ASSERT_TRUE(wait_until([&] { return seen->connected() && seen->all().size() == 1; }));
  ASSERT_OK(client.grant(10s));
  const auto refused = [&](EtcdOptions o, std::string_view words) {
    TestClient stranger(store_at(std::move(o)));
    const auto put = stranger.put("k", "2");
    ASSERT_FALSE(put);
    EXPECT_EQ(put.error().problem, Problem::kUnauthenticated) << put.error().message;
    EXPECT_FALSE(put.error().may_have_happened);
    EXPECT_NE(put.error().message.find(words), std::string::npos) << put.error().message;
    EXPECT_EQ(put.error().message.find("wrong-password"), std::string::npos);
    const auto watched = stranger.watch({"k", true, 1});
    ASSERT_TRUE(wait_until([&] { return !watched->ended().empty(); }));
    EXPECT_EQ(watched->ended()[0].problem, Problem::kUnauthenticated) << watched->ended()[0].message;
  };
  refused(options("queen", "wrong-password"), "'queen'");
  refused(quick(cluster().endpoints()), "user name");
  EtcdOptions elsewhere = options("queen", "a:b");
  elsewhere.prefix = "/other";
  refused(elsewhere, "permission denied");
  EXPECT_EQ(client.get("k")->entry->value, "1");
}

TEST_F(EtcdPasswords, tokens_that_etcd_has_forgotten_are_renewed) {
  TestClient client(store_at(options("queen", "a:b")));
  ASSERT_OK(client.put("k", "1"));
  const auto seen = client.watch({"k", true, 1});
  ASSERT_TRUE(wait_until([&] { return seen->all().size() == 1; }));
  cluster().kill_now(0);  // tokens are in its memory
  cluster().start(0);
  ASSERT_TRUE(put_soon(client, "k", "2"));
  ASSERT_TRUE(wait_until([&] { return seen->all().size() == 2; }));
  EXPECT_TRUE(seen->ended().empty());
}

TEST_F(EtcdFaults, certificates_are_checked) {
  TestFolder folder;
  auto authority = security::Authority::open(folder.path, {.queen_id = "q"});
  ASSERT_TRUE(authority) << authority.error().message;
  const auto identity = authority->make_identity({security::DaemonKind::kQueen, "q"}, {"127.0.0.1", "localhost"});
  ASSERT_TRUE(identity) << identity.error().message;
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(folder.path + "/" + name) << text;
    return folder.path + "/" + name;
  };
  EtcdCluster cluster(1, {write("etcd.pem", identity->chain), write("etcd.key", identity->private_key)});
  const auto trusting = [&](const std::string& root) {
    auto tls = net::TlsClient::make({.own = {}, .authorities = root, .root_fingerprint = {}, .accepts = {}});
    EXPECT_TRUE(tls) << tls.error().message;
    EtcdOptions o = quick(cluster.endpoints());
    o.tls = *tls;
    return o;
  };
  TestClient client(store_at(trusting(authority->root())));
  ASSERT_TRUE(put_soon(client, "k", "1"));
  const auto seen = client.watch({"k", true, 1});
  ASSERT_TRUE(wait_until([&] { return seen->connected() && seen->all().size() == 1; }));
  TestFolder elsewhere;
  auto stranger = security::Authority::open(elsewhere.path, {.queen_id = "x"});
  ASSERT_TRUE(stranger) << stranger.error().message;
  TestClient deceived(store_at(trusting(stranger->root())));
  const auto put = deceived.put("k", "2");
  ASSERT_FALSE(put);
  EXPECT_FALSE(put.error().may_have_happened);
  EXPECT_NE(put.error().message.find(net::kNoSecureConnection), std::string::npos) << put.error().message;
}

}  // namespace
}  // namespace llorch::coord
