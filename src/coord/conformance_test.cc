// One suite for every store: what coord_store.h promises, kept by SQLite and by a real etcd.
#include <gtest/gtest.h>

#include <atomic>

#include "coord/sqlite_store.h"
#include "coord/test_client.h"

namespace llorch::coord {
namespace {

/// One member for all tests of this file; each has a prefix of its own.
EtcdCluster& shared_etcd() {
  static EtcdCluster cluster;
  return cluster;
}

class Conformance : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "etcd") {
      if (!etcd_is_installed()) GTEST_SKIP() << kNoEtcd;
      make_ = [prefix = fmt::format("/test{}", ++prefixes_)](net::EventLoop& loop) {
        return make_etcd_store(loop, {.endpoints = shared_etcd().endpoints(), .prefix = prefix});
      };
      return;
    }
    auto file = SqliteFile::open(folder_.path + "/a.db");
    ASSERT_TRUE(file) << file.error().message;
    make_ = [f = *file](net::EventLoop& loop) { return make_sqlite_store(loop, f); };
  }
  [[nodiscard]] std::unique_ptr<TestClient> connect() const { return std::make_unique<TestClient>(make_); }

  static inline int prefixes_ = 0;
  TestFolder folder_;
  TestClient::Make make_;
};

template<class T>
Problem problem_of(const Outcome<T>& outcome) {
  EXPECT_FALSE(outcome);
  return outcome ? Problem::kUnavailable : outcome.error().problem;
}
#define ASSERT_OK(outcome) ASSERT_TRUE(outcome) << (outcome).error().message

TEST_P(Conformance, keys_have_values_and_revisions) {
  const auto client = connect();
  const std::string odd("\0\xff%'\n/", 6);
  const auto first = client->put("a/" + odd, odd);
  ASSERT_OK(first);
  const auto second = client->put("a/" + odd, "");
  ASSERT_OK(second);
  EXPECT_GT(*second, *first);
  const auto found = client->get("a/" + odd);
  ASSERT_OK(found);
  ASSERT_TRUE(found->entry);
  EXPECT_EQ(*found->entry, (Entry{"a/" + odd, "", *first, *second, 0}));
  EXPECT_GE(found->revision, *second);
  ASSERT_OK(client->remove("a/" + odd));
  EXPECT_FALSE(client->get("a/" + odd)->entry);
  const auto again = client->put("a/" + odd, odd);
  ASSERT_OK(again);
  EXPECT_EQ(client->get("a/" + odd)->entry, (Entry{"a/" + odd, odd, *again, *again, 0}));
  // What is not there is removed without a new revision.
  const auto nothing = client->remove("b");
  ASSERT_OK(nothing);
  EXPECT_EQ(*nothing, *again);
}

TEST_P(Conformance, a_put_with_a_revision_succeeds_only_at_that_revision) {
  const auto client = connect();
  const auto made = client->put("k", "1", 0);
  ASSERT_OK(made);
  const auto twice = client->put("k", "2", 0);
  ASSERT_EQ(problem_of(twice), Problem::kConflict);
  EXPECT_EQ(twice.error().revision, *made);
  const auto changed = client->put("k", "3", *made);
  ASSERT_OK(changed);
  EXPECT_EQ(client->put("k", "4", *made).error().revision, *changed);
  EXPECT_EQ(client->remove("k", *made).error().revision, *changed);
  EXPECT_EQ(client->get("k")->entry->value, "3");
  ASSERT_OK(client->remove("k", *changed));
  const auto gone = client->remove("k", *changed);
  ASSERT_EQ(problem_of(gone), Problem::kConflict);
  EXPECT_EQ(gone.error().revision, 0);
  ASSERT_OK(client->remove("k", 0));
}

TEST_P(Conformance, a_transaction_happens_as_a_whole_or_not_at_all) {
  const auto client = connect();
  const auto a = client->put("a", "1");
  const auto b = client->put("b", "1");
  ASSERT_OK(a);
  ASSERT_OK(b);
  const Transaction t{{{"a", *a}, {"b", *b}, {"c", 0}}, {{"a", "2"}, {"b", std::nullopt}, {"c", "2"}}};
  const auto done = client->commit(t);
  ASSERT_OK(done);
  EXPECT_EQ(client->get("a")->entry, (Entry{"a", "2", *a, *done, 0}));
  EXPECT_EQ(client->get("c")->entry, (Entry{"c", "2", *done, *done, 0}));
  EXPECT_FALSE(client->get("b")->entry);
  const auto refused = client->commit({{{"a", *done}, {"b", *b}}, {{"a", "3"}, {"d", "3"}}});
  ASSERT_EQ(problem_of(refused), Problem::kConflict);
  EXPECT_EQ(refused.error().revision, 0);
  EXPECT_NE(refused.error().message.find("'b'"), std::string::npos) << refused.error().message;
  EXPECT_EQ(client->get("a")->entry->value, "2");
  EXPECT_FALSE(client->get("d")->entry);
}

TEST_P(Conformance, ranges_have_pages_and_show_one_revision) {
  const auto client = connect();
  for (const char* key : {"p/1", "p/2", "p/3", "p", "q", "o/1"}) ASSERT_OK(client->put(key, key));
  auto page = client->range({.key = "p/", .limit = 2});
  ASSERT_OK(page);
  ASSERT_EQ(page->entries.size(), 2u);
  EXPECT_TRUE(page->more);
  EXPECT_EQ(page->entries[1].key, "p/2");
  // What comes meanwhile is not in the pages of before.
  ASSERT_OK(client->put("p/4", "4"));
  ASSERT_OK(client->remove("p/3"));
  const auto rest = client->range({.key = "p/", .after = "p/2", .limit = 2, .revision = page->revision});
  ASSERT_OK(rest);
  ASSERT_EQ(rest->entries.size(), 1u);
  EXPECT_FALSE(rest->more);
  EXPECT_EQ(rest->entries[0].key, "p/3");
  EXPECT_EQ(rest->revision, page->revision);
  EXPECT_EQ(client->range({.key = ""})->entries.size(), 6u);
  EXPECT_EQ(client->range({.key = "p", .exact = true})->entries.size(), 1u);
  const auto behind = client->range({.key = "o/", .after = "z"});
  ASSERT_OK(behind);
  EXPECT_TRUE(behind->entries.empty());
  EXPECT_GE(behind->revision, page->revision);
}

TEST_P(Conformance, senseless_requests_are_refused_with_words) {
  const auto client = connect();
  const auto made = client->put("k", "v");
  ASSERT_OK(made);
  EXPECT_EQ(problem_of(client->put("", "v")), Problem::kInvalid);
  EXPECT_EQ(problem_of(client->put(std::string(kKeyBytesMax + 1, 'k'), "v")), Problem::kInvalid);
  EXPECT_EQ(problem_of(client->put("k", "v", -1)), Problem::kInvalid);
  EXPECT_EQ(problem_of(client->commit({{}, {}})), Problem::kInvalid);
  EXPECT_EQ(problem_of(client->commit({{}, {{"k", "1"}, {"k", "2"}}})), Problem::kInvalid);
  EXPECT_EQ(problem_of(client->range({.key = "k", .limit = 0})), Problem::kInvalid);
  EXPECT_EQ(problem_of(client->range({.key = "k", .revision = *made + 1'000'000})), Problem::kInvalid);
  EXPECT_EQ(problem_of(client->grant(0s)), Problem::kInvalid);
  const auto large = client->put("k", std::string(kRequestBytesMax + 1, 'v'));
  ASSERT_EQ(problem_of(large), Problem::kTooLarge);
  EXPECT_NE(large.error().message.find("1500000"), std::string::npos) << large.error().message;
  Transaction many;
  for (std::size_t i = 0; i <= kOperationsMax; ++i) many.writes.push_back({fmt::format("m{}", i), "v"});
  EXPECT_EQ(problem_of(client->commit(many)), Problem::kInvalid);
  many.writes.pop_back();
  ASSERT_OK(client->commit(many));
  // The largest that is allowed is taken.
  ASSERT_OK(client->put("k", std::string(kRequestBytesMax - 1, '\xfe')));
  const auto found = client->get("k");
  ASSERT_OK(found);
  EXPECT_EQ(found->entry->value, std::string(kRequestBytesMax - 1, '\xfe'));
}

TEST_P(Conformance, a_watch_brings_every_change_from_its_revision_on_and_no_other) {
  const auto writer = connect(), reader = connect();
  const auto first = writer->put("w/1", "a");
  ASSERT_OK(first);
  const auto second = writer->put("w/1", "b");
  ASSERT_OK(writer->put("x", "no"));
  const auto seen = reader->watch({"w/", false, *second});
  const auto exact = reader->watch({"w/1", true, *first});
  ASSERT_TRUE(wait_until([&] { return seen->connected() && seen->all().size() == 1; }));
  const auto third = writer->commit({{}, {{"w/2", "c"}, {"w/1", std::nullopt}, {"w0", "no"}}});
  ASSERT_OK(third);
  ASSERT_TRUE(wait_until([&] { return seen->all().size() == 3; }));
  EXPECT_EQ(seen->all(), (std::vector<Event>{{{"w/1", "b", *first, *second, 0}, false},
                                             {{"w/2", "c", *third, *third, 0}, false},
                                             {{"w/1", "", 0, *third, 0}, true}}));
  ASSERT_TRUE(wait_until([&] { return exact->all().size() == 3; }));
  EXPECT_EQ(exact->all()[0].entry.value, "a");
  EXPECT_TRUE(exact->all()[2].removed);
  reader->drop_owned();
  ASSERT_OK(writer->put("w/1", "unseen"));
  ASSERT_OK(reader->get("w/1"));
  EXPECT_EQ(seen->all().size(), 3u);
}

TEST_P(Conformance, a_watch_from_now_on_brings_what_comes) {
  const auto client = connect();
  ASSERT_OK(client->put("k", "before"));
  const auto seen = client->watch({"k", true, 0});
  ASSERT_TRUE(wait_until([&] { return seen->connected(); }));
  ASSERT_OK(client->put("k", "after"));
  ASSERT_TRUE(wait_until([&] { return !seen->all().empty(); }));
  EXPECT_EQ(seen->all()[0].entry.value, "after");
}

TEST_P(Conformance, a_watch_brings_nothing_when_it_or_its_store_ends_while_it_says_that_it_is_connected) {
  const auto writer = connect();
  const auto made = writer->put("k", "past");
  ASSERT_OK(made);
  for (const bool store_too : {false, true}) {
    const auto client = connect();
    std::unique_ptr<Watch> watch;
    std::atomic<int> connected = 0, events = 0;
    client->on_loop([&] {
      watch = client->store->watch({"k", true, *made}, {[&](const std::vector<Event>&) { ++events; },
                                                        {},
                                                        [&](bool, const std::string&) {
                                                          ++connected;
                                                          if (store_too) return client->store.reset();
                                                          watch.reset();
                                                        }});
    });
    ASSERT_TRUE(wait_until([&] { return connected > 0; }));
    ASSERT_OK(writer->put("k", "now"));
    pass_time(100ms);
    client->on_loop([&] { watch.reset(); });
    EXPECT_EQ(connected, 1);
    EXPECT_EQ(events, 0) << (store_too ? "the store is gone" : "the watch is gone");
  }
}

TEST_P(Conformance, what_was_compacted_must_be_read_again) {
  const auto client = connect();
  const auto old = client->put("k", "1");
  ASSERT_OK(client->put("k", "2"));
  const auto last = client->put("k", "3");
  ASSERT_OK(last);
  ASSERT_OK(client->compact(*last));
  ASSERT_OK(client->compact(*old));
  const auto compacted = client->range({.key = "k", .revision = *old});
  EXPECT_EQ(problem_of(compacted), Problem::kCompacted);
  EXPECT_EQ(compacted.error().revision, 0);
  const auto seen = client->watch({"k", false, *old});
  ASSERT_TRUE(wait_until([&] { return !seen->ended().empty(); }));
  EXPECT_EQ(seen->ended()[0].problem, Problem::kCompacted);
  EXPECT_EQ(seen->ended()[0].revision, *last + 1);
  EXPECT_TRUE(seen->all().empty());
  const auto page = client->range({.key = "k"});
  ASSERT_OK(page);
  EXPECT_EQ(page->entries.at(0).value, "3");
  const auto anew = client->watch({"k", false, page->revision + 1});
  ASSERT_OK(client->put("k", "4"));
  ASSERT_TRUE(wait_until([&] { return anew->all().size() == 1; }));
  EXPECT_EQ(problem_of(client->compact(*last + 1'000'000)), Problem::kInvalid);
}

TEST_P(Conformance, keys_vanish_with_their_lease) {
  const auto client = connect();
  const auto lease = client->grant(60s), other = client->grant(60s);
  ASSERT_OK(lease);
  ASSERT_OK(other);
  EXPECT_NE(lease->id, other->id);
  EXPECT_GE(lease->ttl, 60s);
  ASSERT_OK(client->put("l/1", "v", 0, lease->id));
  ASSERT_OK(client->put("l/2", "v", 0, lease->id));
  ASSERT_OK(client->put("l/3", "v", 0, other->id));
  EXPECT_EQ(client->get("l/1")->entry->lease, lease->id);
  // The last put decides whose a key is.
  ASSERT_OK(client->put("l/2", "free"));
  EXPECT_GT(*client->keep_alive(lease->id), 1s);
  const auto seen = client->watch({"l/", false, 0});
  ASSERT_TRUE(wait_until([&] { return seen->connected(); }));
  ASSERT_OK(client->revoke(lease->id));
  EXPECT_FALSE(client->get("l/1")->entry);
  EXPECT_TRUE(client->get("l/2")->entry);
  EXPECT_TRUE(client->get("l/3")->entry);
  ASSERT_TRUE(wait_until([&] { return seen->all().size() == 1; }));
  EXPECT_TRUE(seen->all()[0].removed);
  ASSERT_OK(client->revoke(lease->id));
  EXPECT_EQ(problem_of(client->keep_alive(lease->id)), Problem::kLeaseNotFound);
  EXPECT_EQ(problem_of(client->put("l/4", "v", 0, lease->id)), Problem::kLeaseNotFound);
  EXPECT_FALSE(client->get("l/4")->entry);
}

TEST_P(Conformance, a_lease_that_nobody_renews_ends_and_one_that_is_kept_does_not) {
  const auto client = connect(), other = connect();
  std::atomic<LeaseId> kept = 0;
  other->on_loop([&] {
    other->own(std::make_unique<KeptLease>(
        *other->store, 2s,
        KeptLease::Callbacks{
            [&](LeaseId id) { kept = id; }, [](const std::string& why) { ADD_FAILURE() << why; }, {}}));
  });
  ASSERT_TRUE(wait_until([&] { return kept != 0; }));
  ASSERT_OK(client->put("kept", "v", 0, kept));
  const auto lease = client->grant(2s);
  ASSERT_OK(lease);
  ASSERT_OK(client->put("dying", "v", 0, lease->id));
  EXPECT_TRUE(client->get("dying")->entry);
  ASSERT_TRUE(wait_until([&] { return !client->get("dying")->entry; }, 8s));
  pass_time(300ms);  // etcd looks twice in a second
  EXPECT_TRUE(client->get("kept")->entry);
  // Whoever goes in order does not leave keys behind.
  other->drop_owned();
  EXPECT_TRUE(wait_until([&] { return !client->get("kept")->entry; }, 1s));
}

/// A candidate and what it was told.
struct Candidate {
  Candidate(TestClient& c, const std::string& name) : client(c) {
    client.on_loop([&] {
      campaign =
          client.own(std::make_unique<Campaign>(*client.store, Campaign::Options{"leader", name, 2s},
                                                Campaign::Callbacks{[this](Revision e) { epoch = e, ++won; },
                                                                    [this](const std::string&) { epoch = 0, ++lost; },
                                                                    [this](const std::string& v) {
                                                                      const std::lock_guard lock(mutex);
                                                                      leader = v;
                                                                    },
                                                                    {}}));
    });
  }
  bool leads() {
    bool does = false;
    client.on_loop([&] { does = campaign->leads(); });
    return does;
  }
  std::string knows() {
    const std::lock_guard lock(mutex);
    return leader;
  }
  TestClient& client;
  Campaign* campaign = nullptr;
  std::atomic<Revision> epoch = 0;
  std::atomic<int> won = 0, lost = 0;
  std::mutex mutex;
  std::string leader;
};

TEST_P(Conformance, one_candidate_leads_and_another_follows_it) {
  const auto a = connect(), b = connect();
  Candidate first(*a, "a");
  ASSERT_TRUE(wait_until([&] { return first.won == 1; }));
  Candidate second(*b, "b");
  ASSERT_TRUE(wait_until([&] { return second.knows() == "a"; }));
  EXPECT_TRUE(first.leads());
  EXPECT_FALSE(second.leads());
  const Revision epoch = first.epoch;
  EXPECT_GT(epoch, 0);
  a->drop_owned();  // it resigns
  ASSERT_TRUE(wait_until([&] { return second.won == 1; }, 1500ms)) << "resigning must not wait for the lease";
  EXPECT_GT(second.epoch, epoch);
  EXPECT_EQ(second.knows(), "b");
  // A leader whose key somebody removes has lost, and wins it again with a higher epoch.
  const Revision before = second.epoch;
  ASSERT_OK(a->remove("leader"));
  ASSERT_TRUE(wait_until([&] { return second.lost == 1 && second.won == 2; }));
  EXPECT_GT(second.epoch, before);
  b->drop_owned();
}

TEST_P(Conformance, a_leader_that_was_stopped_learns_that_it_has_lost) {
  const auto a = connect(), b = connect();
  Candidate first(*a, "a");
  ASSERT_TRUE(wait_until([&] { return first.won == 1; }));
  Candidate second(*b, "b");
  ASSERT_TRUE(wait_until([&] { return second.knows() == "a"; }));
  const Revision epoch = first.epoch;
  // Its loop stands still until another one leads. The first thing that it does then is to ask whether it leads.
  std::promise<bool> led;
  std::atomic<bool> go_on = false;
  a->post([&] {
    while (!go_on) pass_time(5ms);
    led.set_value(first.campaign->leads());
  });
  EXPECT_TRUE(wait_until([&] { return second.won == 1; }));
  go_on = true;
  EXPECT_FALSE(led.get_future().get());
  EXPECT_GT(second.epoch, epoch);
  ASSERT_TRUE(wait_until([&] { return first.lost == 1 && first.knows() == "b"; }));
  EXPECT_TRUE(second.leads());
  EXPECT_FALSE(first.leads());
  EXPECT_EQ(second.lost, 0);
  a->drop_owned(), b->drop_owned();
}

TEST_P(Conformance, of_many_that_change_a_key_each_revision_has_one_successor) {
  constexpr int kClients = 4, kRounds = 25;
  std::vector<std::unique_ptr<TestClient>> clients;
  for (int i = 0; i < kClients; ++i) clients.push_back(connect());
  std::vector<std::thread> threads;
  std::atomic<int> succeeded = 0;
  for (auto& client : clients)
    threads.emplace_back([&] {
      for (int done = 0; done < kRounds;) {
        const auto now = client->get("counter");
        ASSERT_OK(now);
        const int count = now->entry ? std::stoi(now->entry->value) : 0;
        const auto put = client->put("counter", std::to_string(count + 1), now->entry ? now->entry->modified : 0);
        if (put) {
          ++done, ++succeeded;
        } else {
          ASSERT_EQ(put.error().problem, Problem::kConflict) << put.error().message;
        }
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(succeeded, kClients * kRounds);
  EXPECT_EQ(clients[0]->get("counter")->entry->value, std::to_string(kClients * kRounds));
}

TEST_P(Conformance, a_store_that_is_destroyed_answers_nothing_more) {
  net::EventLoop loop;
  auto store = make_(loop);
  int answers = 0;
  for (int i = 0; i < 10; ++i) store->put("k", "v", {}, [&](const Outcome<Revision>&) { ++answers; });
  const auto watch = store->watch({"k", true, 0}, {});
  store.reset();
  const auto end = loop.after(300ms, [&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(answers, 0);
}

INSTANTIATE_TEST_SUITE_P(Stores, Conformance, testing::Values("sqlite", "etcd"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace llorch::coord
