// Campaigns and kept leases that are destroyed by whoever they call back, and mirrors, with a store that answers as it
// is told.
#include <gtest/gtest.h>

#include "coord/campaign.h"
#include "coord/kept_lease.h"
#include "coord/mirror.h"

namespace llorch::coord {
namespace {

using namespace std::chrono_literals;

constexpr LeaseId kLease = 7, kOther = 8;
const Failure kNobody{Problem::kUnavailable, "nobody answers"};

/// Each call has one answer, given in a turn of its own.
class ScriptedStore final : public CoordStore {
 public:
  using CoordStore::CoordStore;
  Outcome<Page> page = Page{{}, false, 9};
  Outcome<Revision> put = 10;
  Outcome<LeaseGrant> granted = LeaseGrant{kLease, 1s};
  Outcome<std::chrono::seconds> kept = 1s;
  std::vector<Event> events;          // of each watch, at once
  std::optional<Failure> end;         // of each watch, at once
  std::chrono::milliseconds late{0};  // how long a lease's grant takes
  int limit_max = kPageEntriesMax;    // more in a page is too large
  std::vector<int> limits;            // of the pages that were asked for
  bool gone = false;                  // it must not be called any more
  int calls_when_gone = 0;

  void range(Query query, Done<Page> done) override {
    limits.push_back(query.limit);
    const Failure too_large{Problem::kTooLarge, "a page of 64 MiB"};
    answer(std::move(done), query.limit > limit_max ? Outcome<Page>(std::unexpected(too_large)) : page);
  }
  void commit(Transaction, Done<Revision> done) override { answer(std::move(done), put); }
  std::unique_ptr<Watch> watch(WatchQuery, WatchCallbacks callbacks) override {
    calls_when_gone += gone;
    auto held = std::make_shared<Handle>(std::move(callbacks));
    loop().post([this, weak = std::weak_ptr(held)] {
      const auto watch = weak.lock();
      if (watch && !events.empty()) watch->callbacks.on_events(events);
      if (watch && end) watch->callbacks.on_end(*end);
    });
    return std::make_unique<Owner>(held);
  }
  void grant(std::chrono::seconds, Done<LeaseGrant> done) override {
    if (late == 0ms) return answer(std::move(done), granted);
    timer_ = loop().after(late, [this, done = std::move(done)] { done(granted); });
  }
  void keep_alive(LeaseId, Done<std::chrono::seconds> done) override { answer(std::move(done), kept); }
  void revoke(LeaseId, Done<void> done) override { answer(std::move(done), Outcome<void>()); }
  void compact(Revision, Done<void> done) override { answer(std::move(done), Outcome<void>()); }
  std::string description() const override { return "a script"; }

 private:
  struct Handle {
    explicit Handle(WatchCallbacks c) : callbacks(std::move(c)) {}
    WatchCallbacks callbacks;
  };
  struct Owner final : Watch {
    explicit Owner(std::shared_ptr<Handle> h) : held(std::move(h)) {}
    std::shared_ptr<Handle> held;
  };
  template<class T>
  void answer(Done<T> done, Outcome<T> outcome) {
    calls_when_gone += gone;
    loop().post([this, done = std::move(done), outcome = std::move(outcome)] {
      if (!gone) done(outcome);
    });
  }
  net::EventLoop::Timer timer_;
};

class Callbacks : public testing::Test {
 protected:
  Callbacks() {
    loop_.on_fault = [](const char* what) { ADD_FAILURE() << what; };
  }
  /// Destroys whoever calls it, at its `at`-th call.
  template<class... Arguments>
  std::function<void(Arguments...)> destroys(int at = 1) {
    return [this, at, token = std::make_shared<int>(0)](Arguments...) {
      Callbacks& test = *this;
      EXPECT_FALSE(test.store_.gone) << "it is called after its end";
      if (++test.calls_ != at) return;
      const std::weak_ptr<int> captures = token;
      test.campaign_.reset(), test.lease_.reset();
      EXPECT_FALSE(captures.expired()) << "the function that runs is destroyed";
      test.store_.gone = true;
    };
  }
  template<class... Arguments>
  std::function<void(Arguments...)> passes() {
    return [this](Arguments...) { EXPECT_FALSE(store_.gone) << "it is called after its end"; };
  }
  Campaign::Callbacks campaign_callbacks() {
    return {passes<Revision>(), passes<const std::string&>(), passes<const std::string&>(), passes<const Failure&>()};
  }
  void run() {
    const auto end = loop_.after(1500ms, [this] { loop_.stop(); });
    stop_when_gone();
    loop_.run();
    EXPECT_TRUE(store_.gone) << "it was not called";
    EXPECT_EQ(store_.calls_when_gone, 0) << "the store is used after its end";
  }
  void campaign(Campaign::Callbacks callbacks) {
    campaign_ = std::make_unique<Campaign>(store_, Campaign::Options{"key", "me", 1s}, std::move(callbacks));
    run();
  }
  void lease(KeptLease::Callbacks callbacks) {
    lease_ = std::make_unique<KeptLease>(store_, 1s, std::move(callbacks));
    run();
  }
  void another_leads() {
    store_.put = std::unexpected(Failure{Problem::kConflict, "it is there"});
    store_.page = Page{{{"key", "another", 3, 3, kOther}}, false, 9};
  }

  net::EventLoop loop_;
  ScriptedStore store_{loop_};
  std::unique_ptr<Campaign> campaign_;
  std::unique_ptr<KeptLease> lease_;
  int calls_ = 0;

 private:
  /// A little later, so that what would come afterwards does.
  void stop_when_gone() {
    timer_ = loop_.after(store_.gone ? 400ms : 20ms, [this, gone = store_.gone] {
      if (gone) return loop_.stop();
      stop_when_gone();
    });
  }
  net::EventLoop::Timer timer_;
};

TEST_F(Callbacks, a_campaign_ends_in_on_won) {
  auto c = campaign_callbacks();
  c.on_won = destroys<Revision>();
  campaign(std::move(c));
}

TEST_F(Callbacks, a_campaign_ends_in_on_leader_before_it_is_told_that_it_has_won) {
  auto c = campaign_callbacks();
  c.on_leader = destroys<const std::string&>();
  campaign(std::move(c));
}

TEST_F(Callbacks, a_campaign_ends_in_on_leader_when_another_one_leads) {
  another_leads();
  auto c = campaign_callbacks();
  c.on_leader = destroys<const std::string&>();
  campaign(std::move(c));
}

TEST_F(Callbacks, a_campaign_ends_in_on_leader_when_nobody_leads_any_more) {
  another_leads();
  store_.events = {{{"key", "", 0, 10, 0}, true}};
  auto c = campaign_callbacks();
  c.on_leader = destroys<const std::string&>(2);
  campaign(std::move(c));
}

TEST_F(Callbacks, a_campaign_ends_in_on_lost) {
  store_.events = {{{"key", "", 0, 11, 0}, true}};
  auto c = campaign_callbacks();
  c.on_lost = destroys<const std::string&>();
  campaign(std::move(c));
}

TEST_F(Callbacks, a_campaign_ends_in_on_problem_of_its_key) {
  store_.put = std::unexpected(kNobody);
  auto c = campaign_callbacks();
  c.on_problem = destroys<const Failure&>();
  campaign(std::move(c));
}

TEST_F(Callbacks, a_campaign_ends_in_on_problem_of_its_watch) {
  store_.end = Failure{Problem::kCompacted, "gone", 12};
  auto c = campaign_callbacks();
  c.on_problem = destroys<const Failure&>();
  campaign(std::move(c));
}

TEST_F(Callbacks, a_campaign_ends_in_on_problem_of_its_lease) {
  store_.granted = std::unexpected(kNobody);
  auto c = campaign_callbacks();
  c.on_problem = destroys<const Failure&>();
  campaign(std::move(c));
}

TEST_F(Callbacks, a_lease_ends_in_on_granted) { lease({destroys<LeaseId>(), passes<const std::string&>(), {}}); }

TEST_F(Callbacks, a_lease_ends_in_on_lost) {
  store_.kept = std::unexpected(Failure{Problem::kLeaseNotFound, "it has ended"});
  lease({passes<LeaseId>(), destroys<const std::string&>(), {}});
}

TEST_F(Callbacks, a_lease_ends_in_on_problem_of_its_grant) {
  store_.granted = std::unexpected(kNobody);
  lease({passes<LeaseId>(), passes<const std::string&>(), destroys<const Failure&>()});
}

TEST_F(Callbacks, a_lease_ends_in_on_problem_of_its_renewal) {
  store_.kept = std::unexpected(kNobody);
  lease({passes<LeaseId>(), passes<const std::string&>(), destroys<const Failure&>()});
}

TEST_F(Callbacks, a_lease_that_was_granted_too_late_is_granted_before_it_is_lost) {
  store_.late = 950ms;  // of 1 s, it counts as held for nine tenths
  std::string order;
  lease_ = std::make_unique<KeptLease>(
      store_, 1s,
      KeptLease::Callbacks{[&](LeaseId) { order += "granted "; }, [&](const std::string&) { order += "lost "; }, {}});
  const auto end = loop_.after(1500ms, [this] { loop_.stop(); });
  loop_.run();
  EXPECT_EQ(order, "granted lost ");
}

TEST_F(Callbacks, a_mirror_reads_smaller_pages_where_one_is_too_large) {
  store_.limit_max = 10;
  Mirror mirror(store_, "", {});
  mirror.when_at(1, [this] { loop_.stop(); });
  const auto end = loop_.after(1500ms, [this] { loop_.stop(); });
  loop_.run();
  EXPECT_TRUE(mirror.ready()) << mirror.problem();
  EXPECT_EQ(store_.limits, (std::vector{1000, 100, 10}));
}

TEST_F(Callbacks, a_mirror_says_so_where_one_entry_alone_is_too_large) {
  store_.limit_max = 0;
  Mirror mirror(store_, "", {{}, [this](bool, const std::string&) { loop_.stop(); }});
  const auto end = loop_.after(1500ms, [this] { loop_.stop(); });
  loop_.run();
  EXPECT_FALSE(mirror.ready());
  EXPECT_EQ(mirror.problem(), "a page of 64 MiB");
  EXPECT_EQ(store_.limits, (std::vector{1000, 100, 10, 1}));
}

TEST_F(Callbacks, a_change_that_the_store_has_lost_again_is_not_waited_for) {
  store_.end = Failure{Problem::kCompacted, "it was set back", 10};
  Mirror mirror(store_, "", {});  // it reads revision 9 each time, and the change is made in 10
  std::optional<Status> outcome;
  mirror.update(
      "k", [](const std::string*) -> Result<std::optional<std::string>> { return "v"; },
      [&](const Status& s) {
        outcome = s;
        loop_.stop();
      });
  const auto end = loop_.after(1500ms, [this] { loop_.stop(); });
  loop_.run();
  ASSERT_TRUE(outcome) << "it waits for ever";
  ASSERT_FALSE(*outcome);
  EXPECT_EQ(outcome->error().code, ErrorCode::kStoreUnavailable);
  EXPECT_NE(outcome->error().message.find("may be lost"), std::string::npos) << outcome->error().message;
}

}  // namespace
}  // namespace llorch::coord
