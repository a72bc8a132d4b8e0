#include "queen/sharing.h"

#include <algorithm>

#include "base/clock.h"
#include "format/json.h"
#include "queen/model_resolver.h"
#include "queen/queen.h"
#include "queen/shared_entries.h"
#include "security/digest.h"
#include "service/log.h"

namespace llorch::queen {

using service::Level;
using service::log;

namespace {

using namespace shared;

constexpr std::chrono::seconds kFiguresEvery{10}, kLayInAgain{2};
// Of a worker: what changes with every request. The worker itself says whether it has a seat.
constexpr std::string_view kBusy = "busy", kReady = "ready";

/// `now` where there is something already.
coord::Mirror::Change unless_there(std::string value) {
  return [value = std::move(value)](const std::string* now) -> Result<std::optional<std::string>> {
    return now ? *now : value;
  };
}
coord::Mirror::Change always(std::optional<std::string> value) {
  return [value = std::move(value)](const std::string*) -> Result<std::optional<std::string>> { return value; };
}
void log_failure(const Status& done) {
  if (!done) log(Level::kWarn, "store_failed", done.error().message);
}

}  // namespace

void Sharing::start(Catalog& catalog) {
  own_ = entries_of(catalog, [this](const std::string& hive) { return q_.members().kept_token(hive); });
  catalog.aliases.clear(), catalog.pins.clear(), catalog.settings.clear();
  catalog.hives.clear(), catalog.models.clear();
  for (const auto& [name, ref] : builtin_aliases()) catalog.aliases[name] = ref;
  fleet_->start([this](const auto& events) { take(events); },
                [this] {
                  q_.changed().notify();
                  if (fleet_->mirror().find(std::string(kHouse))) return own_.clear();
                  lay_in_own();
                });
}

/// One entry after the other, and last that it was done, so that a queen which is stopped midway begins again.
void Sharing::lay_in_own() {
  const bool last = own_.empty();
  const std::string key = last ? std::string(kHouse) : own_.begin()->first;
  std::string value = last ? rfc3339(std::chrono::system_clock::now()) : own_.begin()->second;
  fleet_->mirror().update(key, unless_there(std::move(value)), [this, key, last](const Status& done) {
    if (!done) {
      log(Level::kWarn, "data_not_shared",
          fmt::format("{} of this queen's own catalog is tried again: {}", key, done.error().message));
      lay_in_timer_ = fleet_->store().loop().after(kLayInAgain, [this] { lay_in_own(); });
      return;
    }
    if (!last) return own_.erase(key), ++laid_in_, lay_in_own();
    if (laid_in_ > 0)
      log(Level::kInfo, "data_shared",
          fmt::format("{} entries of this queen's own catalog are the fleet's now", laid_in_));
  });
}

void Sharing::set_alias(const std::string& name, const std::string& ref,
                        std::function<void(const Status&, const std::string&)> then) {
  const auto before = std::make_shared<std::string>();
  fleet_->mirror().update(
      key_of(kAliases, name),
      [ref, before](const std::string* now) -> Result<std::optional<std::string>> {
        *before = now ? *now : "";
        return ref;
      },
      [before, then = std::move(then)](const Status& done) { then(done, *before); });
}

void Sharing::remove_alias(const std::string& name, Then then) {
  fleet_->mirror().update(key_of(kAliases, name), always(std::nullopt), std::move(then));
}

void Sharing::set_pin(const std::string& ref, bool pinned, Then then) {
  fleet_->mirror().update(key_of(kPins, ref), always(pinned ? std::optional<std::string>("1") : std::nullopt),
                          std::move(then));
}

void Sharing::change_settings(const std::string& ref, std::function<Status(colony::ModelSettings&)> change, Then then) {
  fleet_->mirror().update(
      key_of(kSettings, ref),
      [change = std::move(change)](const std::string* now) -> Result<std::optional<std::string>> {
        colony::ModelSettings settings = settings_of(now ? *now : "{}");
        LLORCH_OK(change(settings));
        if (settings.empty()) return std::nullopt;
        return settings_text(settings);
      },
      std::move(then));
}

void Sharing::keep_joined(const HiveRow& row, const std::string& token, Then then) {
  fleet_->mirror().update(key_of(kRevoked, row.id), always(std::nullopt), log_failure);
  fleet_->mirror().update(key_of(kHives, row.id), always(joined_text(row, token)), std::move(then));
}

void Sharing::keep_seen(const HiveRow& row, const std::vector<colony::Model>& models) {
  fleet_->mirror().update(key_of(kSeen, row.id), always(seen_text(row, models)), log_failure);
}

void Sharing::remove_hive(const std::string& hive_id, bool revoke, Then then) {
  coord::Transaction gone;
  for (const std::string_view what : {kHives, kSeen, kLive})
    gone.writes.push_back({key_of(what, hive_id), std::nullopt});
  if (revoke) gone.writes.push_back({key_of(kRevoked, hive_id), rfc3339(std::chrono::system_clock::now())});
  fleet_->store().commit(std::move(gone),
                         [this, hive_id, then = std::move(then)](const coord::Outcome<coord::Revision>& done) {
                           if (!done) return then(std::unexpected(coord::to_error(done.error())));
                           fleet_->withdraw(hive_id);  // what she is writing at this moment
                           told_.erase(hive_id);
                           then({});
                         });
}

void Sharing::tell_revoked(const std::string& hive_id, Then then) {
  fleet_->mirror().update(key_of(kRevoked, hive_id), always(rfc3339(std::chrono::system_clock::now())),
                          std::move(then));
}

void Sharing::add_key(const security::ApiKey& key, Then then) {
  fleet_->mirror().update(key_of(kKeys, to_hex(key.hash)), always(key_text(key)), std::move(then));
}

void Sharing::remove_key(const security::ApiKey& key, Then then) {
  fleet_->mirror().update(key_of(kKeys, to_hex(key.hash)), always(std::nullopt), std::move(then));
}

std::vector<security::ApiKey> Sharing::keys() const {
  std::vector<security::ApiKey> out;
  for (const auto& [key, entry] : fleet_->mirror().entries())
    if (key.starts_with(kKeys))
      if (auto read = key_of_text(key.substr(kKeys.size()), entry.value)) out.push_back(*std::move(read));
  return out;
}

void Sharing::heard(const HiveEntry& h) {
  // A hive that answers on its own machine alone cannot be reached from another queen's, unless that is the same.
  const auto own = net::parse_url(fleet_->urls().front());
  if (security::is_loopback(h.peer.base.host) && own && !security::is_loopback(own->host)) return;
  colony::HiveBeat beat{h.id, h.url, h.version, "", h.told_revision, h.workers, {}};
  for (colony::WorkerFacts& w : beat.workers)
    if (w.state == kBusy) w.state = kReady;
  colony::HiveBeat facts = beat;
  for (colony::WorkerFacts& w : facts.workers) w.figures.clear();
  std::string text = boost::json::serialize(colony::to_json(facts));
  Told& told = told_[h.id];
  const auto now = net::Clock::now();
  if (told.facts == text && now - told.at < kFiguresEvery && fleet_->publishes(h.id)) return;
  told = {std::move(text), now};
  beat.node = h.node;
  const bool by_operator = h.peer.token == q_.front().token();
  fleet_->publish(h.id, boost::json::serialize(boost::json::object{{"queen", fleet_->id()},
                                                                   {"opened_by", by_operator ? "operator" : "own"},
                                                                   {"beat", colony::to_json(beat)}}));
}

void Sharing::sweep() {
  claims_.sweep();
  fleet_->retry_withdrawals();
  for (const std::string& hive : fleet_->published())
    if (!q_.hives().online(hive)) {
      fleet_->withdraw(hive);
      told_.erase(hive);
    }
}

void Sharing::take(const std::vector<coord::Event>& events) {
  for (const coord::Event& e : events) {
    const auto name = [&](std::string_view what) -> std::optional<std::string> {
      if (!e.entry.key.starts_with(what)) return std::nullopt;
      return e.entry.key.substr(what.size());
    };
    if (const auto alias = name(kAliases))
      take_alias(*alias, e);
    else if (const auto pin = name(kPins))
      q_.placer().pin(*pin, !e.removed);
    else if (const auto ref = name(kSettings))
      take_settings(*ref, e);
    else if (const auto hive = name(kHives))
      take_hive(*hive);
    else if (const auto seen = name(kSeen))
      take_hive(*seen);
    else if (const auto revoked = name(kRevoked))
      take_revoked(*revoked, e);
    else if (const auto key = name(kKeys))
      take_key(*key, e);
  }
  // Who opens a hive is known before it is said to be alive, in whatever order both came.
  for (const coord::Event& e : events)
    if (e.entry.key.starts_with(kLive)) take_live(e.entry.key.substr(kLive.size()), e);
  q_.changed().notify();
}

void Sharing::take_alias(const std::string& name, const coord::Event& e) {
  if (builtin_aliases().contains(name)) return;
  if (e.removed)
    q_.catalog().aliases.erase(name);
  else
    q_.catalog().aliases[name] = e.entry.value;
}

void Sharing::take_settings(const std::string& text, const coord::Event& e) {
  const auto ref = colony::parse_model_ref(text);
  if (!ref) return;
  colony::ModelSettings settings = settings_of(e.removed ? "{}" : e.entry.value);
  q_.placer().settings().keep(*ref, std::move(settings));
}

void Sharing::take_hive(const std::string& id) {
  const coord::Entry* joined = fleet_->mirror().find(key_of(kHives, id));
  const coord::Entry* seen = fleet_->mirror().find(key_of(kSeen, id));
  const std::string key = joined ? joined->value : "";
  const boost::json::object of_joined = read_object(joined ? joined->value : "{}"),
                            of_seen = read_object(seen ? seen->value : "{}");
  if (std::string& in_force = keys_[id]; in_force != key) {
    in_force = key;
    q_.members().learn(id, text_in(of_joined, "node_key"), text_in(of_joined, "token"));
  }
  if (!joined && !seen) {
    keys_.erase(id);
    q_.catalog().hives.erase(id), q_.catalog().models.erase(id);
    if (const HiveEntry* h = q_.hives().find(id); h && !h->via.empty()) q_.hives().erase(id);
    return;
  }
  q_.catalog().hives[id] = row_of(id, of_joined, of_seen);
  q_.catalog().models[id] = models_of(of_seen);
}

void Sharing::take_key(const std::string& hash, const coord::Event& e) {
  q_.front().keys().unshare(from_hex(hash));
  if (e.removed) return;
  auto key = key_of_text(hash, e.entry.value);
  if (key)
    q_.front().keys().share(*std::move(key));
  else
    log(Level::kWarn, "key_not_read", fmt::format("a key in the fleet's store: {}", key.error().message));
}

void Sharing::take_revoked(const std::string& id, const coord::Event& e) {
  if (!q_.tls().opened() || e.removed != q_.tls().is_revoked(id)) return;  // that is known
  const auto failed = [id](const Error& why) {
    log(Level::kError, "not_revoked", fmt::format("the hive {}: {}", id, why.message));
  };
  if (!e.removed)
    return q_.revoke_certificates(
        id, [failed](const Status& s) { return s ? void() : failed(s.error()); }, Queen::ToldBy::kFleet);
  q_.background().run([&q = q_, id, failed] {
    if (const Status s = q.tls().readmit(id); !s) failed(s.error());
  });
}

void Sharing::take_live(const std::string& id, const coord::Event& e) {
  if (e.removed) return q_.hives().end_via(id);
  const boost::json::object o = read_object(e.entry.value);
  const std::string queen = text_in(o, "queen");
  if (queen.empty() || queen == fleet_->id()) return q_.hives().end_via(id);
  const auto* told = o.if_contains("beat");
  auto beat = told ? colony::read_beat(*told) : Result<colony::HiveBeat>(fail(ErrorCode::kInvalidRequest, "no beat"));
  if (!beat || beat->hive_id != id)
    return log(Level::kWarn, "hive_not_read", fmt::format("what {} tells of the hive {} cannot be read", queen, id));
  const std::string token = text_in(o, "opened_by") == "operator" ? q_.front().token() : q_.members().kept_token(id);
  if (const Status s = q_.hive_beat(*std::move(beat), token, queen); !s)
    log(Level::kWarn, "hive_not_taken", s.error().message, {{"hive_id", id}});
}

}  // namespace llorch::queen
