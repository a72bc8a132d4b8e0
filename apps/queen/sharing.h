// What a queen shares with the others of her fleet, as her own tables have it: aliases, pins, settings of models, keys,
// hives and who opens them. What another queen has changed is in force here when it comes; what is changed here is in
// force when the store has it (fleet.h).
//
// Threads: the event loop's.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "queen/catalog.h"
#include "queen/fleet.h"
#include "queen/hive_table.h"
#include "queen/shared_claims.h"
#include "security/keys.h"

namespace llorch::queen {

class Queen;

class Sharing {
 public:
  using Then = std::function<void(const Status&)>;
  Sharing(Queen& queen, std::unique_ptr<Fleet> fleet) : q_(queen), fleet_(std::move(fleet)) {}

  /// What the queen's own file has goes into the store where no queen has laid anything there before; it stays in the
  /// file, which is not looked at again. Empties `catalog` but for what the store does not hold.
  void start(Catalog& catalog);
  [[nodiscard]] Fleet& fleet() { return *fleet_; }
  [[nodiscard]] const Fleet& fleet() const { return *fleet_; }
  [[nodiscard]] SharedClaims& claims() { return claims_; }

  // What is changed here. Errors: kStoreUnavailable; kResourceInUse where others change the same all the time.
  /// `then` also gets what the name meant before.
  void set_alias(const std::string& name, const std::string& ref,
                 std::function<void(const Status&, const std::string& before)> then);
  void remove_alias(const std::string& name, Then then);
  void set_pin(const std::string& ref, bool pinned, Then then);
  /// `change` makes of a model's settings what they are to be; its error is that of `then`.
  void change_settings(const std::string& ref, std::function<Status(colony::ModelSettings&)> change, Then then);
  void keep_joined(const HiveRow& row, const std::string& token, Then then);
  /// Where it is, and what models it has: not waited for.
  void keep_seen(const HiveRow& row, const std::vector<colony::Model>& models);
  /// All that is shared of it, and its certificates where `revoke`, in one step. Errors: kStoreUnavailable.
  void remove_hive(const std::string& hive_id, bool revoke, Then then);
  /// The others revoke its certificates, too.
  void tell_revoked(const std::string& hive_id, Then then);
  void add_key(const security::ApiKey& key, Then then);
  void remove_key(const security::ApiKey& key, Then then);
  [[nodiscard]] std::vector<security::ApiKey> keys() const;

  /// A hive has sent a heartbeat here: the others are told when anything has changed that they place by, of its figures
  /// every ten seconds.
  void heard(const HiveEntry& h);
  /// Hives that are silent here are no longer said to be heard.
  void sweep();

 private:
  void take(const std::vector<coord::Event>& events);
  void take_alias(const std::string& name, const coord::Event& e);
  void take_settings(const std::string& ref, const coord::Event& e);
  void take_hive(const std::string& id);
  void take_key(const std::string& hash, const coord::Event& e);
  void take_revoked(const std::string& id, const coord::Event& e);
  void take_live(const std::string& id, const coord::Event& e);
  void lay_in_own();

  struct Told {
    std::string facts;
    net::Clock::time_point at;
  };
  Queen& q_;
  std::unique_ptr<Fleet> fleet_;
  SharedClaims claims_{*fleet_};
  std::map<std::string, Told> told_;         // of hives that beat here
  std::map<std::string, std::string> keys_;  // values of "hives/", as they are in force
  std::map<std::string, std::string> own_;   // of the queen's file, until the store has it
  std::size_t laid_in_ = 0;
  net::EventLoop::Timer lay_in_timer_;
};

}  // namespace llorch::queen
