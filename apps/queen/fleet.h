// A queen among others: the store that they share, what is known of them, and which of them leads.
//
// What is shared lies under these keys, each with a value of its own:
//   aliases/NAME   the model's reference
//   pins/REF       "1"
//   settings/REF   {KEY: VALUE}
//   keys/SHA256    {scopes, created, name}
//   hives/HIVE     who speaks for a hive that has joined, and what opens it
//   seen/HIVE      where a hive was last, and its models
//   revoked/HIVE   since when its certificates are good no longer, until it joins again
//   house          when a queen laid her own data into it
// and while a queen lives:
//   queens/ID      {url, version, started}
//   live/HIVE      what the queen that hears it knows of it
//   claims/SHA256  {body, answer}: shared_claims.h
//   leader         the id of the queen that leads
// She looks at a copy in memory (coord/mirror.h) and never waits for the store; what she changes counts when the store
// has said yes. "While she lives": such keys are bound to a lease of 10 s, which she renews.
// The leader forgets old revisions of the store, and decides nothing else: who hears a hive cares for it.
// Threads: the event loop's; open() blocks where the store is a file.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "coord/campaign.h"
#include "coord/kept_lease.h"
#include "coord/mirror.h"
#include "coord/store_url.h"
#include "queen/metrics.h"

namespace llorch::queen {

struct FleetOptions {
  std::string store, prefix = "/llorch";  // store: store_url.h; empty: she is alone
  std::string user_file, authorities_file;
  std::chrono::seconds grace{30};  // so long she places requests without the store
};

/// `data_dir`: of a store that is a file without a name. Blocks. Errors: kInvalidRequest for what cannot be a store;
/// those of its file.
[[nodiscard]] Result<std::unique_ptr<coord::CoordStore>> open_store(net::EventLoop& loop, const FleetOptions& options,
                                                                    const std::string& data_dir);

class Fleet {
 public:
  struct Self {
    std::string id, url, started;  // url: where other machines reach her
    std::string data_dir;          // of a store that is a file without a name
  };
  using OnChanges = std::function<void(const std::vector<coord::Event>&)>;
  /// Errors: kInvalidRequest for what cannot be a store; those of its file.
  [[nodiscard]] static Result<std::unique_ptr<Fleet>> open(net::EventLoop& loop, const FleetOptions& options, Self self,
                                                           StoreMetrics& metrics);
  Fleet(std::unique_ptr<coord::CoordStore> store, Self self, std::chrono::seconds grace, StoreMetrics& metrics);
  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  /// Reads what is shared, and makes herself known. `on_changes`: of it, at first everything, without queens, leader
  /// and claims.
  void start(OnChanges on_changes, std::function<void()> on_ready);
  /// The others need not wait until her lease ends. `then`: within 2 s.
  void leave(std::function<void()> then);

  [[nodiscard]] const std::string& id() const { return self_.id; }
  /// What is bound to it goes when she does; 0: she holds none now.
  [[nodiscard]] coord::LeaseId lease() const { return lease_ && lease_->held() ? lease_->id() : 0; }
  [[nodiscard]] coord::Mirror& mirror() { return *mirror_; }
  [[nodiscard]] const coord::Mirror& mirror() const { return *mirror_; }
  [[nodiscard]] coord::CoordStore& store() { return *store_; }
  /// Whether what is shared is known at all. Errors: kStoreUnavailable.
  [[nodiscard]] Status check_known() const;
  /// Whether new requests are taken. Errors: kStoreUnavailable: for longer than the grace the store has not answered.
  [[nodiscard]] Status check_fresh() const;

  /// The others know of a hive that she hears: `text` is what they are told. It is written when it differs from before.
  void publish(const std::string& hive, std::string text);
  /// She does not hear it any more. Nothing where another queen does. What the store does not answer is asked again by
  /// retry_withdrawals().
  void withdraw(const std::string& hive);
  void retry_withdrawals();
  [[nodiscard]] bool publishes(const std::string& hive) const { return live_.contains(hive); }
  [[nodiscard]] std::vector<std::string> published() const;

  /// Addresses of the queens, her own first.
  [[nodiscard]] std::vector<std::string> urls() const;
  /// {id, store, healthy, problem?, lag_s, revision, leader, queens: [{id, url, version, started, leads}]}
  [[nodiscard]] boost::json::object json() const;
  /// Before metrics are read.
  void measure();

 private:
  struct Live {
    std::string wanted, written;  // written: under this lease
    bool writing = false;
  };
  void take(const std::vector<coord::Event>& events);
  void contact(bool connected, const std::string& why);
  void probe();
  void take_lease();
  void announce();
  void write_live(const std::string& hive);
  void remove_live(const std::string& hive);
  void forget_old_revisions();
  [[nodiscard]] std::string leader() const;

  std::unique_ptr<coord::CoordStore> store_;
  Self self_;
  std::chrono::seconds grace_;
  StoreMetrics& metrics_;
  OnChanges on_changes_;
  std::unique_ptr<coord::Mirror> mirror_;
  std::unique_ptr<coord::KeptLease> lease_;
  std::unique_ptr<coord::Campaign> campaign_;
  std::map<std::string, Live> live_;
  std::map<std::string, bool> withdrawn_;  // hives that the store still has as hers; whether that is under way
  std::string problem_;                    // of the last try to reach the store
  std::vector<std::pair<net::Clock::time_point, coord::Revision>> past_;
  bool probing_ = false;
  net::EventLoop::Timer probe_timer_, lease_timer_, announce_timer_, compact_timer_, leave_timer_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // ends with her: answers that come later are not for her
};

}  // namespace llorch::queen
