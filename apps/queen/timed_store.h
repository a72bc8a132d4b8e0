// A store whose calls are measured: how long each answer took, and how many failed. Threads: the loop's.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "coord/coord_store.h"
#include "queen/metrics.h"

namespace llorch::queen {

class TimedStore final : public coord::CoordStore {
 public:
  TimedStore(std::unique_ptr<coord::CoordStore> store, StoreMetrics& metrics)
      : CoordStore(store->loop()), store_(std::move(store)), metrics_(metrics) {}

  void range(coord::Query query, coord::Done<coord::Page> done) override {
    store_->range(std::move(query), timed(std::move(done)));
  }
  void commit(coord::Transaction transaction, coord::Done<coord::Revision> done) override {
    store_->commit(std::move(transaction), timed(std::move(done)));
  }
  std::unique_ptr<coord::Watch> watch(coord::WatchQuery query, coord::WatchCallbacks callbacks) override {
    return store_->watch(std::move(query), std::move(callbacks));
  }
  void grant(std::chrono::seconds ttl, coord::Done<coord::LeaseGrant> done) override {
    store_->grant(ttl, timed(std::move(done)));
  }
  void keep_alive(coord::LeaseId lease, coord::Done<std::chrono::seconds> done) override {
    store_->keep_alive(lease, timed(std::move(done)));
  }
  void revoke(coord::LeaseId lease, coord::Done<void> done) override { store_->revoke(lease, timed(std::move(done))); }
  void compact(coord::Revision revision, coord::Done<void> done) override {
    store_->compact(revision, timed(std::move(done)));
  }
  [[nodiscard]] std::string description() const override { return store_->description(); }

 private:
  /// A conflict is an answer.
  template<class T>
  coord::Done<T> timed(coord::Done<T> done) {
    return [&m = metrics_, done = std::move(done), begin = net::Clock::now()](coord::Outcome<T> outcome) {
      m.latency_ms.Observe(std::chrono::duration<double, std::milli>(net::Clock::now() - begin).count());
      if (!outcome && outcome.error().problem != coord::Problem::kConflict) m.failures.Increment();
      done(std::move(outcome));
    };
  }
  std::unique_ptr<coord::CoordStore> store_;
  StoreMetrics& metrics_;
};

}  // namespace llorch::queen
