#include "queen/fleet.h"

#include <algorithm>
#include <ranges>

#include "base/open_file.h"
#include "coord/etcd_store.h"
#include "coord/sqlite_store.h"
#include "format/json.h"
#include "queen/shared_entries.h"
#include "queen/timed_store.h"
#include "service/log.h"

namespace llorch::queen {

using coord::Outcome;
using coord::Revision;
using service::Level;
using service::log;

namespace {

constexpr std::chrono::seconds kLease{10}, kProbeEvery{2}, kLeaveTime{2};
// Whoever was away for less goes on by its watch; for longer, it reads everything again.
constexpr std::chrono::minutes kRevisionsKept{10}, kCompactEvery{1};
using shared::kLeader, shared::kLive, shared::kQueens;

}  // namespace

Result<std::unique_ptr<coord::CoordStore>> open_store(net::EventLoop& loop, const FleetOptions& o,
                                                      const std::string& data_dir) {
  LLORCH_TRY(const coord::StoreUrl url, coord::parse_store_url(o.store));
  if (url.kind == coord::StoreUrl::Kind::kSqlite) {
    LLORCH_TRY(auto file, coord::SqliteFile::open(url.file.empty() ? data_dir + "/fleet.db" : url.file));
    return coord::make_sqlite_store(loop, std::move(file));
  }
  LLORCH_OK(coord::check_prefix(o.prefix));
  coord::EtcdOptions etcd{.endpoints = url.endpoints, .prefix = o.prefix};
  if (!o.user_file.empty()) {
    LLORCH_TRY(etcd.credentials, coord::read_credentials(o.user_file));
  }
  if (url.endpoints.front().tls) {  // who it is, is its own certificate's matter, and not the colony's authority's
    std::string authorities;
    constexpr std::size_t kAuthoritiesBytesMax = 1u << 20;
    if (!o.authorities_file.empty()) {
      LLORCH_TRY(authorities, read_text_file(o.authorities_file, kAuthoritiesBytesMax));
    }
    LLORCH_TRY(etcd.tls, net::TlsClient::make({{}, authorities, "", {}}));
  }
  return coord::make_etcd_store(loop, std::move(etcd));
}

Result<std::unique_ptr<Fleet>> Fleet::open(net::EventLoop& loop, const FleetOptions& options, Self self,
                                           StoreMetrics& metrics) {
  LLORCH_TRY(auto store, open_store(loop, options, self.data_dir));
  auto timed = std::make_unique<TimedStore>(std::move(store), metrics);
  return std::make_unique<Fleet>(std::move(timed), std::move(self), options.grace, metrics);
}

Fleet::Fleet(std::unique_ptr<coord::CoordStore> store, Self self, std::chrono::seconds grace, StoreMetrics& metrics)
    : store_(std::move(store)), self_(std::move(self)), grace_(grace), metrics_(metrics) {}

void Fleet::start(OnChanges on_changes, std::function<void()> on_ready) {
  on_changes_ = std::move(on_changes);
  mirror_ = std::make_unique<coord::Mirror>(
      *store_, "",
      coord::Mirror::Callbacks{[this](const std::vector<coord::Event>& events) { take(events); },
                               [this](bool connected, const std::string& why) { contact(connected, why); }});
  mirror_->when_at(1, std::move(on_ready));
  take_lease();
  coord::Campaign::Callbacks told;
  told.on_won = [this](Revision epoch) {
    log(Level::kInfo, "leads", fmt::format("this queen leads the fleet, epoch {}", epoch), {{"epoch", epoch}});
    past_.clear();
    forget_old_revisions();
  };
  told.on_lost = [this](const std::string& why) {
    log(Level::kWarn, "leads_no_longer", fmt::format("this queen leads the fleet no longer: {}", why));
    compact_timer_.cancel();
  };
  campaign_ = std::make_unique<coord::Campaign>(
      *store_, coord::Campaign::Options{std::string(kLeader), self_.id, kLease}, std::move(told));
}

void Fleet::leave(std::function<void()> then) {
  const auto once = std::make_shared<std::function<void()>>(std::move(then));
  const auto go_on = [once] {
    if (const auto next = std::exchange(*once, nullptr)) next();
  };
  campaign_.reset(), lease_timer_.cancel(), announce_timer_.cancel(), compact_timer_.cancel();
  live_.clear(), withdrawn_.clear();
  const coord::LeaseId id = lease_ ? lease_->id() : 0;
  lease_.reset();
  if (id == 0) return go_on();
  leave_timer_ = store_->loop().after(kLeaveTime, go_on);
  store_->revoke(id, [go_on](const Outcome<void>&) { go_on(); });
}

Status Fleet::check_known() const {
  if (mirror_ && mirror_->ready()) return {};
  return fail(ErrorCode::kStoreUnavailable, "what the queens of this fleet share is not known yet: {}",
              !problem_.empty() ? problem_
              : mirror_         ? mirror_->problem()
                                : store_->description() + " was not asked yet");
}

Status Fleet::check_fresh() const {
  LLORCH_OK(check_known());
  const auto lag = mirror_->lag();
  if (lag <= grace_) return {};
  return fail(ErrorCode::kStoreUnavailable, "the store of the fleet has not answered for {} s: {}",
              std::chrono::duration_cast<std::chrono::seconds>(lag).count(),
              problem_.empty() ? mirror_->problem() : problem_);
}

void Fleet::take(const std::vector<coord::Event>& events) {
  std::vector<coord::Event> shared;
  std::ranges::copy_if(events, std::back_inserter(shared), [](const coord::Event& e) {
    return !e.entry.key.starts_with(kQueens) && !e.entry.key.starts_with(shared::kClaims) && e.entry.key != kLeader;
  });
  for (const coord::Event& e : shared) {  // another queen hears one of hers now
    if (!e.entry.key.starts_with(kLive)) continue;
    const auto live = live_.find(e.entry.key.substr(kLive.size()));
    if (live != live_.end() && !e.removed && lease_ && e.entry.lease != lease_->id()) live_.erase(live);
  }
  if (!shared.empty() && on_changes_) on_changes_(shared);
}

void Fleet::contact(bool connected, const std::string& why) {
  if (connected) {
    log(Level::kInfo, "store_connected", fmt::format("{} answers", store_->description()));
    problem_.clear(), probe_timer_.cancel();
    return;
  }
  log(Level::kWarn, "store_lost", fmt::format("{} does not answer: {}", store_->description(), why));
  probe();
}

/// Who was asked and why each failed, as long as there is no contact.
void Fleet::probe() {
  probe_timer_ = store_->loop().after(kProbeEvery, [this] {
    if (!mirror_->in_contact()) probe();
  });
  if (std::exchange(probing_, true)) return;
  store_->get(std::string(kLeader), [this, weak = std::weak_ptr(alive_)](const Outcome<coord::Lookup>& found) {
    if (weak.expired()) return;
    probing_ = false;
    problem_ = found || mirror_->in_contact() ? "" : found.error().message;
  });
}

void Fleet::take_lease() {
  coord::KeptLease::Callbacks told;
  told.on_granted = [this](coord::LeaseId) {
    announce();
    for (auto& [hive, live] : live_) live.written.clear();
    for (const std::string& hive : published()) write_live(hive);
  };
  told.on_lost = [this](const std::string& why) {
    metrics_.lease_losses.Increment();
    log(Level::kWarn, "lease_lost", fmt::format("the others may take this queen for dead: {}", why));
    lease_timer_ = store_->loop().after({}, [this] { take_lease(); });  // not inside a callback of the old one
  };
  told.on_problem = [this](const coord::Failure& f) { problem_ = f.message; };
  lease_.reset();
  lease_ = std::make_unique<coord::KeptLease>(*store_, kLease, std::move(told));
}

void Fleet::announce() {
  const boost::json::object about{{"url", self_.url}, {"version", LLORCH_VERSION}, {"started", self_.started}};
  store_->put(
      std::string(kQueens) + self_.id, boost::json::serialize(about), {},
      [this, weak = std::weak_ptr(alive_)](const Outcome<Revision>& put) {
        if (weak.expired() || put || !lease_) return;
        announce_timer_ = store_->loop().after(std::chrono::seconds(1), [this] {
          if (lease_ && lease_->held()) announce();
        });
      },
      lease_->id());
}

std::vector<std::string> Fleet::published() const {
  std::vector<std::string> out;
  for (const auto& [hive, live] : live_) out.push_back(hive);
  return out;
}

void Fleet::publish(const std::string& hive, std::string text) {
  withdrawn_.erase(hive);
  live_[hive].wanted = std::move(text);
  write_live(hive);
}

void Fleet::write_live(const std::string& hive) {
  const auto it = live_.find(hive);
  if (it == live_.end() || it->second.writing || !lease_ || !lease_->held()) return;
  Live& live = it->second;
  if (live.wanted == live.written) return;
  live.writing = true, live.written = live.wanted;
  const auto written = [this, weak = std::weak_ptr(alive_), hive](const Outcome<Revision>& put) {
    if (weak.expired()) return;
    const auto now = live_.find(hive);
    if (now == live_.end()) {  // withdrawn meanwhile
      withdrawn_[hive] = false;
      return remove_live(hive);
    }
    now->second.writing = false;
    if (!put) return now->second.written.clear();  // the next heartbeat tries again
    write_live(hive);
  };
  store_->put(std::string(kLive) + hive, live.wanted, {}, written, lease_->id());
}

void Fleet::withdraw(const std::string& hive) {
  const auto it = live_.find(hive);
  if (it == live_.end()) return;
  const bool writing = it->second.writing;  // then it is removed when that has been answered
  live_.erase(it);
  withdrawn_[hive] = writing;
  if (!writing) remove_live(hive);
}

void Fleet::retry_withdrawals() {
  std::vector<std::string> hives;
  for (const auto& [hive, asking] : withdrawn_) hives.push_back(hive);
  for (const std::string& hive : hives) remove_live(hive);
}

/// Only what is bound to her own lease, as it is now: another queen may hear the hive.
void Fleet::remove_live(const std::string& hive) {
  const auto it = withdrawn_.find(hive);
  if (it == withdrawn_.end() || std::exchange(it->second, true)) return;
  const auto settle = [this, weak = std::weak_ptr(alive_), hive](bool gone) {
    if (weak.expired()) return;
    const auto now = withdrawn_.find(hive);
    if (now == withdrawn_.end()) return;
    now->second = false;
    if (gone) withdrawn_.erase(now);
  };
  store_->get(std::string(kLive) + hive,
              [this, weak = std::weak_ptr(alive_), hive, settle](const Outcome<coord::Lookup>& found) {
                if (weak.expired()) return;
                if (!found) return settle(false);
                if (!withdrawn_.contains(hive)) return;  // she hears it again
                const bool hers = found->entry && lease_ && found->entry->lease == lease_->id();
                if (!hers) return settle(true);
                store_->remove(std::string(kLive) + hive, found->entry->modified,
                               [settle](const Outcome<Revision>& removed) { settle(removed.has_value()); });
              });
}

void Fleet::forget_old_revisions() {
  const auto now = net::Clock::now();
  past_.emplace_back(now, mirror_->revision());
  const auto young = std::ranges::find_if(past_, [&](const auto& p) { return now - p.first < kRevisionsKept; });
  if (young != past_.begin()) {
    const Revision old = std::prev(young)->second;
    past_.erase(past_.begin(), young);
    if (old > 0) store_->compact(old, [](const Outcome<void>&) {});  // what fails is tried with the next one
  }
  compact_timer_ = store_->loop().after(kCompactEvery, [this] { forget_old_revisions(); });
}

std::string Fleet::leader() const {
  const coord::Entry* e = mirror_->find(std::string(kLeader));
  return e ? e->value : "";
}

std::vector<std::string> Fleet::urls() const {
  std::vector<std::string> out{self_.url};
  for (const auto& [key, entry] : mirror_->entries()) {
    if (!key.starts_with(kQueens)) continue;
    const auto about = json::parse(entry.value, "queen");
    const auto* o = about ? about->if_object() : nullptr;
    const std::string url = o ? json::find_text(*o, "url").value_or("") : "";
    if (!url.empty() && std::ranges::find(out, url) == out.end()) out.push_back(url);
  }
  return out;
}

boost::json::object Fleet::json() const {
  boost::json::array queens;
  const std::string first = leader();
  for (const auto& [key, entry] : mirror_->entries()) {
    if (!key.starts_with(kQueens)) continue;
    const auto about = json::parse(entry.value, "queen");
    boost::json::object o = about && about->is_object() ? about->get_object() : boost::json::object();
    const std::string id = key.substr(kQueens.size());
    o["id"] = id, o["leads"] = id == first;
    queens.push_back(std::move(o));
  }
  boost::json::object out{{"id", self_.id},
                          {"store", store_->description()},
                          {"healthy", mirror_->in_contact()},
                          {"lag_s", std::chrono::duration<double>(mirror_->lag()).count()},
                          {"revision", mirror_->revision()},
                          {"leader", first},
                          {"queens", std::move(queens)}};
  if (!mirror_->in_contact()) out["problem"] = problem_.empty() ? mirror_->problem() : problem_;
  return out;
}

void Fleet::measure() {
  metrics_.watch_lag_s.Set(std::chrono::duration<double>(mirror_->lag()).count());
  metrics_.leads.Set(campaign_ && campaign_->leads() ? 1 : 0);
  const auto queens =
      std::ranges::count_if(mirror_->entries(), [](const auto& e) { return e.first.starts_with(kQueens); });
  metrics_.queens.Set(static_cast<double>(queens));
}

}  // namespace llorch::queen
