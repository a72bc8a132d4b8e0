// For tests: a store on a loop of its own, asked from the test's thread, which waits for each answer.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "coord/campaign.h"
#include "coord/coord_store.h"
#include "coord/etcd_store.h"
#include "coord/kept_lease.h"
#include "coord/test_etcd.h"

namespace llorch::coord {

/// What a watch has brought so far.
struct Seen {
  std::mutex mutex;
  std::vector<Event> events;
  std::vector<Failure> ends;
  std::vector<bool> contacts;
  std::vector<Event> all() {
    const std::lock_guard lock(mutex);
    return events;
  }
  bool connected() {
    const std::lock_guard lock(mutex);
    return !contacts.empty() && contacts.back();
  }
  std::size_t times_lost() {
    const std::lock_guard lock(mutex);
    return static_cast<std::size_t>(std::count(contacts.begin(), contacts.end(), false));
  }
  std::vector<Failure> ended() {
    const std::lock_guard lock(mutex);
    return ends;
  }
};

class TestClient {
 public:
  using Make = std::function<std::unique_ptr<CoordStore>(net::EventLoop&)>;
  explicit TestClient(const Make& make) : store(make(loop_)), thread_([this] { loop_.run(); }) {
    loop_.on_fault = [](const char* what) { ADD_FAILURE() << what; };
  }
  ~TestClient() {
    on_loop([this] { owned_.clear(), store.reset(); });
    loop_.stop();
    thread_.join();
  }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  void on_loop(const std::function<void()>& what) {
    std::promise<void> done;
    loop_.post([&] { what(), done.set_value(); });
    done.get_future().wait();
  }
  void post(std::function<void()> what) { loop_.post(std::move(what)); }
  /// The answer of a call; a test that waits for more than 20 s has failed.
  template<class T>
  Outcome<T> wait(const std::function<void(Done<T>)>& call) {
    auto promise = std::make_shared<std::promise<Outcome<T>>>();
    auto future = promise->get_future();
    loop_.post([call, promise] { call([promise](Outcome<T> o) { promise->set_value(std::move(o)); }); });
    if (future.wait_for(20s) == std::future_status::ready) return future.get();
    ADD_FAILURE() << "no answer";
    return std::unexpected(Failure{Problem::kUnavailable, "no answer in the test"});
  }
  Outcome<Revision> put(const std::string& key, const std::string& value, std::optional<Revision> expected = {},
                        LeaseId lease = 0) {
    return wait<Revision>([=, this](Done<Revision> d) { store->put(key, value, expected, std::move(d), lease); });
  }
  Outcome<Revision> remove(const std::string& key, std::optional<Revision> expected = {}) {
    return wait<Revision>([=, this](Done<Revision> d) { store->remove(key, expected, std::move(d)); });
  }
  Outcome<Revision> commit(const Transaction& t) {
    return wait<Revision>([=, this](Done<Revision> d) { store->commit(t, std::move(d)); });
  }
  Outcome<Lookup> get(const std::string& key) {
    return wait<Lookup>([=, this](Done<Lookup> d) { store->get(key, std::move(d)); });
  }
  Outcome<Page> range(const Query& q) {
    return wait<Page>([=, this](Done<Page> d) { store->range(q, std::move(d)); });
  }
  Outcome<LeaseGrant> grant(std::chrono::seconds ttl) {
    return wait<LeaseGrant>([=, this](Done<LeaseGrant> d) { store->grant(ttl, std::move(d)); });
  }
  Outcome<std::chrono::seconds> keep_alive(LeaseId id) {
    return wait<std::chrono::seconds>([=, this](Done<std::chrono::seconds> d) { store->keep_alive(id, std::move(d)); });
  }
  Outcome<void> revoke(LeaseId id) {
    return wait<void>([=, this](Done<void> d) { store->revoke(id, std::move(d)); });
  }
  Outcome<void> compact(Revision r) {
    return wait<void>([=, this](Done<void> d) { store->compact(r, std::move(d)); });
  }
  /// Until the client ends.
  std::shared_ptr<Seen> watch(const WatchQuery& query) {
    auto seen = std::make_shared<Seen>();
    on_loop([&] {
      own(store->watch(query, {[seen](const std::vector<Event>& e) {
                                 const std::lock_guard lock(seen->mutex);
                                 seen->events.insert(seen->events.end(), e.begin(), e.end());
                               },
                               [seen](const Failure& f) {
                                 const std::lock_guard lock(seen->mutex);
                                 seen->ends.push_back(f);
                               },
                               [seen](bool connected, const std::string&) {
                                 const std::lock_guard lock(seen->mutex);
                                 seen->contacts.push_back(connected);
                               }}));
    });
    return seen;
  }
  /// On the loop: kept until the client ends.
  template<class T>
  T* own(std::unique_ptr<T> object) {
    T* raw = object.get();
    owned_.push_back(std::shared_ptr<T>(std::move(object)));
    return raw;
  }
  void drop_owned() {
    on_loop([this] { owned_.clear(); });
  }

 private:
  net::EventLoop loop_;

 public:
  std::unique_ptr<CoordStore> store;

 private:
  std::vector<std::shared_ptr<void>> owned_;
  std::thread thread_;
};

}  // namespace llorch::coord
