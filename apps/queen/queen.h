// The queen: takes every decision. Puts together who belongs to the colony (membership.h), its hives (hive_table.h),
// the placing of requests (placer.h), what is kept of jobs (job_ledger.h), this machine's hive (local_hive.h) and the
// door (admission.h); routes are in route/ (Q-01 to Q-31).
//
// Registries are memory, catalogs SQLite on the background thread. Threads: the event loop's.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "address_file.h"
#include "base/state_lock.h"
#include "base/use_lock.h"
#include "queen/admission.h"
#include "queen/catalog.h"
#include "queen/colony_tls.h"
#include "queen/intake.h"
#include "queen/job_ledger.h"
#include "queen/membership.h"
#include "queen/options.h"
#include "queen/placer.h"
#include "queen/sharing.h"
#include "queen/stored_responses.h"
#include "queen/worker_feeds.h"
#include "service/background.h"
#include "service/broadcast.h"
#include "service/exit_deadline.h"
#include "service/front.h"
#include "service/job_desk.h"

namespace llorch::queen {

class Queen {
 public:
  Queen(net::EventLoop& loop, QueenOptions options);
  ~Queen();
  [[nodiscard]] Status start();
  /// Ends what it started, then itself; `all`: hives that joined on their own too.
  void shutdown(std::string_view why, bool all = false);
  [[nodiscard]] int exit_code() const { return 0; }
  /// She ends once no command of this machine uses her.
  [[nodiscard]] bool ends_when_unused() const { return uses_.has_value(); }
  /// She goes on until she is told to end.
  void stay();

  [[nodiscard]] const QueenOptions& options() const { return options_; }
  [[nodiscard]] net::EventLoop& loop() { return loop_; }
  [[nodiscard]] service::Front& front() { return front_; }
  [[nodiscard]] service::JobDesk& desk() { return desk_; }
  [[nodiscard]] service::Background& background() { return background_; }
  /// Files of people, which may be on disks that hang. Each task's owner is its path.
  [[nodiscard]] service::Background& files() { return files_; }
  [[nodiscard]] Metrics& metrics() { return metrics_; }
  [[nodiscard]] service::Signal& changed() { return changed_; }
  [[nodiscard]] service::Broadcast& broadcast() { return broadcast_; }
  [[nodiscard]] Catalog& catalog() { return *catalog_; }
  [[nodiscard]] const Catalog& catalog() const { return *catalog_; }
  [[nodiscard]] Membership& members() { return members_; }
  /// Under it lives every procedure of hers.
  [[nodiscard]] service::Gate& gate() { return gate_; }
  [[nodiscard]] HiveTable& hives() { return hives_; }
  [[nodiscard]] const HiveTable& hives() const { return hives_; }
  [[nodiscard]] HiveCalls& calls() { return calls_; }
  [[nodiscard]] Placer& placer() { return placer_; }
  [[nodiscard]] const Placer& placer() const { return placer_; }
  [[nodiscard]] WorkerFeeds& feeds() { return feeds_; }
  [[nodiscard]] const WaitingLine& line() const { return placer_.line(); }
  [[nodiscard]] Admission& admission() { return admission_; }
  [[nodiscard]] Intake& intake() { return intake_; }
  [[nodiscard]] JobLedger& ledger() { return ledger_; }
  [[nodiscard]] LocalHive& local_hive() { return local_; }
  [[nodiscard]] const LocalHive& local_hive() const { return local_; }
  [[nodiscard]] StoredResponses& responses() { return responses_; }
  /// Null: she is alone.
  [[nodiscard]] Sharing* sharing() { return sharing_.get(); }
  [[nodiscard]] const Sharing* sharing() const { return sharing_.get(); }
  [[nodiscard]] bool stopping() const { return stopping_; }
  [[nodiscard]] net::Clock::time_point started() const { return started_; }
  [[nodiscard]] const boost::json::array& advice() const { return advice_; }
  /// Somebody looks at figures of machines: until some seconds after the last look hives measure all of them often.
  void looked() { looked_at_ = net::Clock::now(); }
  [[nodiscard]] bool watched() const;

  /// A heartbeat of a hive whose addresses are settled; `token` opens it; `via`: another queen heard it. Errors:
  /// kResourceInUse when the id belongs to another address.
  [[nodiscard]] Status hive_beat(colony::HiveBeat beat, std::string token, const std::string& via = {});
  /// A hive leaves for good: its key, its row, its entry; where queens share a store, once that has said yes. Errors:
  /// kStoreUnavailable: it stays.
  void forget_hive(const std::string& hive_id, std::function<void(const Status&)> then);
  /// Its certificates are good no longer, and its connections end. Errors: kInvalidRequest where there is no authority.
  /// Where queens share a store, the others do the same; `by` says who has begun.
  enum class ToldBy { kHere, kFleet };
  void revoke_certificates(const std::string& hive_id, std::function<void(Status)> then, ToldBy by = ToldBy::kHere);
  [[nodiscard]] ColonyTls& tls() { return tls_; }
  [[nodiscard]] const ColonyTls& tls() const { return tls_; }
  void forget_worker(const std::string& hive_id, const std::string& worker_id);
  /// Of calls to a worker: one that gives no sign of life is ended, and what ran there fails with kWorkerUnhealthy.
  [[nodiscard]] Watch watch_worker(const Placed& at, PulsePtr pulse);
  /// Asks a hive for its capabilities; changed() tells when they are there.
  void refresh(const std::string& hive_id);
  /// The workers of a model stay, or no longer; in force for those that are made from now on. Errors: of what keeps it.
  [[nodiscard]] service::Step<bool> keep_pin(const service::FlowPtr& flow, const std::string& model, bool pinned);
  /// After refresh(): what came is kept.
  void keep_hive(const HiveEntry& h);
  /// Of the catalog, those that are not online.
  [[nodiscard]] std::vector<const HiveRow*> offline_hives() const;
  [[nodiscard]] bool local_hive_wanted() const { return !options_.no_own_hive; }
  /// "" means the local one, or else any that is online. Errors: kHiveNotFound, with words that tell a hive that is
  /// offline from one that nobody knows.
  [[nodiscard]] Result<HiveEntry*> find_hive(const std::string& id);
  /// Whether an operation for this hive ("": any) is one for this machine's, which must be started for it.
  [[nodiscard]] bool own_hive_is_meant(const std::string& id) const {
    const bool meant = id.empty() ? hives_.online().empty() : id == local_.id() && !hives_.online(id);
    return meant && local_hive_wanted();
  }
  /// Of this machine, of the catalog, or online.
  /// What is said of a hive that is offline: that its certificates were revoked, where they were.
  [[nodiscard]] std::string why_offline(const std::string& id) const;
  [[nodiscard]] bool knows_hive(const std::string& id) const;
  /// There is no hive of that name: names those that there are.
  [[nodiscard]] Error unknown_hive(const std::string& id) const;
  /// What a caller means by a name, and what may be done for it. Errors: kInvalidRequest, kModelNotFound.
  [[nodiscard]] Result<ResolvedModel> resolve(std::string_view model, const security::Principal& who) const;
  /// What is counted, with the states of now.
  [[nodiscard]] std::string metrics_text();

 private:
  [[nodiscard]] Status open_tls();
  /// The store that she shares with others, where she has one.
  [[nodiscard]] Status open_fleet();
  [[nodiscard]] service::ProcessOptions local_hive_invocation() const;
  void forget_here(const std::string& hive_id);
  void check_clock(HiveEntry& h, std::chrono::system_clock::time_point sent);
  /// Idle workers of hives whose memory is nearly full.
  void relieve_pressure();
  /// Requests that wait for what a hive is doing must not wait for one that hangs.
  void probe_waited_for();
  void optimize();
  void sweep();
  /// Of a queen that ends when she is not used: looks whether she is.
  void watch_use();

  service::ExitDeadline deadline_;  // first: a file that hangs holds up the end of its thread
  net::EventLoop& loop_;
  QueenOptions options_;
  service::Gate gate_{loop_}, ending_{loop_};  // ending_: of what shuts her down, when gate_ is closed
  service::Front front_;
  Metrics metrics_;  // before the desk, which counts to the end
  service::JobDesk desk_;
  std::optional<StateLock> lock_;
  std::optional<UseLock> uses_;  // where she ends when she is not used
  std::optional<AddressFile> address_;
  std::unique_ptr<Catalog> catalog_;
  Membership members_;
  service::Signal changed_;  // something that decisions look at
  HiveTable hives_;
  HiveCalls calls_;
  WorkerFeeds feeds_{gate_};
  LocalHive local_;
  Placer placer_;
  Admission admission_;
  StoredResponses responses_;
  service::Broadcast broadcast_;
  boost::json::array advice_;
  net::EventLoop::Timer optimizer_timer_, sweep_timer_, use_timer_;
  net::Clock::time_point started_ = net::Clock::now();
  std::optional<net::Clock::time_point> looked_at_;
  bool stopping_ = false;
  service::Background background_, files_;  // their work uses what is above
  JobLedger ledger_;
  Intake intake_;
  ColonyTls tls_;
  std::unique_ptr<Sharing> sharing_;
};

/// {hives, workers, queue, ...} for people and pages.
[[nodiscard]] boost::json::object overview(const Queen& q);
/// What can be asked for, as OpenAI's list has it: what is on hives that are online, or were, and what has a name.
[[nodiscard]] boost::json::array models(const Queen& q);

#define LLORCH_ROUTE(name) void add_route_##name(Queen& queen);
#include "queen_routes.inc"
#undef LLORCH_ROUTE

}  // namespace llorch::queen
