// Random operations of several clients, held to a model. Whatever is cut in between, there must be one history.
//
// Each client changes keys by revision and remembers what it was told. At the end the store's own history, read by a
// watch from the first revision, is the truth that all answers must fit:
//   - each revision changes a key from one state to one other: a put with a revision never succeeds twice for it;
//   - a write that was answered is in the history, at the revision that was said, with its value;
//   - a write that was refused is not there; one that may have happened is there once or not at all;
//   - a read shows the newest change up to its revision, and never one older than was known when it began.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>

#include "base/random.h"
#include "coord/sqlite_store.h"
#include "coord/test_client.h"
#include "coord/test_proxy.h"

namespace llorch::coord {
namespace {

constexpr int kClients = 4, kKeys = 3;

struct Dice {
  std::uint64_t seed, choice, step = 0;
  int below(int n) { return static_cast<int>(uniform(seed, choice, ++step) * n); }
};

struct Written {  // what a client tried
  std::string key, value;
  bool removal = false;
  std::optional<Revision> expected;
  Revision revision = 0;  // that it was told
  bool answered = false, may_have_happened = false;
  Revision known_before = 0;
};
struct Read {
  std::string key;
  std::optional<Entry> entry;
  Revision revision = 0, known_before = 0;
};
struct Log {
  std::vector<Written> writes;
  std::vector<Read> reads;
  int lost = 0;
};

/// The newest revision that anybody was told of: what begins later must see it.
using Known = std::atomic<Revision>;
void learn(Known& known, Revision revision) {
  Revision before = known;
  while (before < revision && !known.compare_exchange_weak(before, revision)) {
  }
}

void act(const std::function<std::unique_ptr<TestClient>()>& connect, Dice dice, int operations, Known& known,
         Log& log) {
  auto client = connect();
  std::map<std::string, Revision> seen;  // of each key, as far as this client knows
  for (int i = 0; i < operations; ++i) {
    if (dice.below(25) == 0) client = connect();
    const std::string key = fmt::format("k{}", dice.below(kKeys));
    const int what = dice.below(10);
    const Revision before = known;
    if (what < 3) {
      const auto found = client->get(key);
      if (!found) {
        ++log.lost;
        continue;
      }
      learn(known, found->revision);
      log.reads.push_back({key, found->entry, found->revision, before});
      seen[key] = found->entry ? found->entry->modified : 0;
      continue;
    }
    Written w{key, fmt::format("{}-{}", dice.choice, i), what == 9, seen[key], 0, false, false, before};
    if (what == 8) w.expected.reset();
    const auto done = w.removal ? client->remove(key, w.expected) : client->put(key, w.value, w.expected);
    if (done) {
      w.answered = true, w.revision = *done;
      seen[key] = w.removal ? 0 : *done;
      learn(known, *done);
    } else if (done.error().problem == Problem::kConflict) {
      EXPECT_NE(done.error().revision, *w.expected);
      seen[key] = done.error().revision;
      learn(known, done.error().revision);
    } else {
      ++log.lost;
      w.may_have_happened = done.error().may_have_happened;
    }
    log.writes.push_back(w);
  }
}

/// The state of a key up to a revision.
const Event* newest(const std::vector<Event>& events, const std::string& key, Revision up_to) {
  const Event* found = nullptr;
  for (const Event& e : events)
    if (e.entry.key == key && e.entry.modified <= up_to) found = &e;
  return found;
}

void check_write(const Written& w, const std::vector<Event>& history, std::set<const Event*>& explained) {
  std::vector<const Event*> made;
  for (const Event& e : history)
    if (!w.removal && e.entry.key == w.key && !e.removed && e.entry.value == w.value) made.push_back(&e);
  ASSERT_LE(made.size(), 1u) << w.value << " was written twice";
  // A removal of what is not there changes nothing, and has the revision of the time.
  if (w.removal && w.expected.value_or(0) == 0) return;
  if (w.removal && w.answered)
    for (const Event& e : history)
      if (e.removed && e.entry.key == w.key && e.entry.modified == w.revision) made.push_back(&e);
  if (!w.answered && !w.may_have_happened) {
    EXPECT_TRUE(made.empty()) << w.value << " was refused and is there";
  }
  if (w.answered) {
    ASSERT_EQ(made.size(), 1u) << w.value << " was answered and is lost";
    EXPECT_EQ(made[0]->entry.modified, w.revision);
    EXPECT_GT(w.revision, w.known_before);
  }
  if (made.empty()) return;
  EXPECT_TRUE(explained.insert(made[0]).second) << "two writes have made revision " << made[0]->entry.modified;
  const Event* before = newest(history, w.key, made[0]->entry.modified - 1);
  const Revision had = before && !before->removed ? before->entry.modified : 0;
  if (w.expected) {
    EXPECT_EQ(had, *w.expected) << w.value << " at " << made[0]->entry.modified;
  }
}

void check_read(const Read& r, const std::vector<Event>& history) {
  EXPECT_GE(r.revision, r.known_before) << "a stale read of " << r.key;
  const Event* e = newest(history, r.key, r.revision);
  ASSERT_EQ(r.entry.has_value(), e && !e->removed) << r.key << " at " << r.revision;
  if (r.entry) {
    EXPECT_EQ(*r.entry, e->entry);
  }
}

/// `disturb` is called between calls, until the clients have done what they do.
void run(const std::function<std::unique_ptr<TestClient>(int)>& connect, std::uint64_t seed, int operations,
         const std::function<void(Dice&)>& disturb) {
  SCOPED_TRACE(fmt::format("seed {}", seed));
  const auto reader = connect(kClients);
  const auto seen = reader->watch({"k", false, 1});
  std::vector<Log> logs(kClients);
  Known known = 0;
  std::atomic<int> busy = kClients;
  std::vector<std::thread> threads;
  for (int i = 0; i < kClients; ++i)
    threads.emplace_back([&, i] {
      act([&] { return connect(i); }, {seed, static_cast<std::uint64_t>(i)}, operations, known,
          logs[static_cast<std::size_t>(i)]);
      --busy;
    });
  Dice dice{seed, 99};
  while (busy > 0) disturb(dice);
  for (std::thread& t : threads) t.join();
  // Removed and made again, so that the watch has an end that is known.
  std::optional<Revision> last;
  ASSERT_TRUE(wait_until([&] {
    const auto put = reader->put("k-end", "end");
    if (put) last = *put;
    return put.has_value();
  }));
  ASSERT_TRUE(wait_until([&] {
    const auto all = seen->all();
    return !all.empty() && all.back().entry.modified >= *last;
  })) << "the watch stands still";
  const auto history = seen->all();
  for (std::size_t i = 1; i < history.size(); ++i) ASSERT_GT(history[i].entry.modified, history[i - 1].entry.modified);
  std::set<const Event*> explained;
  int answered = 0, unknown = 0, lost = 0;
  for (const Log& log : logs) {
    for (const Written& w : log.writes) {
      check_write(w, history, explained);
      answered += w.answered, unknown += w.may_have_happened;
    }
    for (const Read& r : log.reads) check_read(r, history);
    lost += log.lost;
  }
  EXPECT_GT(answered, kClients * operations / 10) << "nearly nothing was done";
  std::printf("seed %d: %d writes answered, %d may have happened, %d calls without an answer, %zu revisions\n",
              static_cast<int>(seed), answered, unknown, lost, history.size());
}

TEST(Property, sqlite_has_one_history) {
  TestFolder folder;
  const auto file = SqliteFile::open(folder.path + "/a.db");
  ASSERT_TRUE(file) << file.error().message;
  run(
      [&](int) {
        return std::make_unique<TestClient>([&](net::EventLoop& loop) { return make_sqlite_store(loop, *file); });
      },
      1, 200, [](Dice&) { pass_time(1ms); });
}

TEST(Property, etcd_has_one_history_though_connections_are_cut) {
  if (!etcd_is_installed()) GTEST_SKIP() << kNoEtcd;
  EtcdCluster cluster;
  std::vector<std::unique_ptr<TestProxy>> proxies;
  for (int i = 0; i < 2; ++i) proxies.push_back(std::make_unique<TestProxy>(cluster.port(0)));
  for (std::uint64_t seed = 1; seed <= 2; ++seed)
    run(
        [&](int) {
          EtcdOptions o{.endpoints = {{"127.0.0.1", proxies[0]->port}, {"127.0.0.1", proxies[1]->port}},
                        .prefix = fmt::format("/seed{}", seed),
                        .connect_timeout = 500ms,
                        .answer_timeout = 500ms,
                        .pulse = 200ms,
                        .silence = 800ms};
          return std::make_unique<TestClient>([o](net::EventLoop& loop) { return make_etcd_store(loop, o); });
        },
        seed, 150,
        [&](Dice& dice) {
          TestProxy& proxy = *proxies[static_cast<std::size_t>(dice.below(2))];
          switch (dice.below(4)) {
            case 0: proxy.cut(); break;
            case 1: proxy.answer_bytes_left = dice.below(600); break;
            case 2:
              proxy.frozen = true;
              pass_time(std::chrono::milliseconds(dice.below(30)));
              proxy.frozen = false;
              break;
            default: pass_time(std::chrono::milliseconds(dice.below(20)));
          }
          pass_time(std::chrono::milliseconds(dice.below(8)));
        });
}

}  // namespace
}  // namespace llorch::coord
