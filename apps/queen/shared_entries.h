// What queens share, as keys with values (fleet.h lists them), and the same in a queen's own catalog.
//
// Threads: any; keep() blocks.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "queen/catalog.h"
#include "security/keys.h"

namespace llorch::queen::shared {

// What keys begin with.
inline constexpr std::string_view kAliases = "aliases/", kPins = "pins/", kSettings = "settings/", kHives = "hives/",
                                  kSeen = "seen/", kKeys = "keys/", kLive = "live/", kQueens = "queens/",
                                  kRevoked = "revoked/", kClaims = "claims/";
inline constexpr std::string_view kHouse = "house", kLeader = "leader";

using Entries = std::map<std::string, std::string>;

[[nodiscard]] inline std::string key_of(std::string_view what, const std::string& name) {
  return std::string(what) + name;
}
/// An empty object where it is none: of a later version.
[[nodiscard]] boost::json::object read_object(const std::string& text);
[[nodiscard]] std::string text_in(const boost::json::object& o, std::string_view name);

/// Of a hive that has joined; `token` opens it.
[[nodiscard]] std::string joined_text(const HiveRow& row, const std::string& token);
[[nodiscard]] std::string seen_text(const HiveRow& row, const std::vector<colony::Model>& models);
[[nodiscard]] std::string settings_text(const colony::ModelSettings& settings);
[[nodiscard]] std::string key_text(const security::ApiKey& key);
/// A row of what both say; empty objects where one says nothing.
[[nodiscard]] HiveRow row_of(const std::string& id, const boost::json::object& joined, const boost::json::object& seen);
[[nodiscard]] std::vector<colony::Model> models_of(const boost::json::object& seen);
/// What a later version knows, and this one does not, is left out.
[[nodiscard]] colony::ModelSettings settings_of(const std::string& text);
/// Errors: kInvalidRequest.
[[nodiscard]] Result<security::ApiKey> key_of_text(const std::string& hash, const std::string& text);

/// All that a queen's own catalog has of them. `token_of`: what opens a hive.
[[nodiscard]] Entries entries_of(const Catalog& catalog,
                                 const std::function<std::string(const std::string&)>& token_of);

}  // namespace llorch::queen::shared
