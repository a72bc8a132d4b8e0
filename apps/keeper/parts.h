// What the commands about the colony's parts share: subcommands with the common flags.
#pragma once

#include <memory>

#include "format/json.h"
#include "keeper/session.h"
#include "keeper/table.h"
#include "security/auth.h"

namespace llorch::keeper {

using Value = boost::json::value;

/// Of a queen who does not answer. Whether another machine's sleeps, or cannot be reached, is not known here.
inline const char* silent_word(const std::string& queen) {
  const auto url = net::parse_url(queen);
  return url && security::is_loopback(url->host) ? "asleep" : "does not answer";
}

/// A worker as `llorch status` shows it, "hive/worker": ids are a hive's own. A bare id is of any hive.
inline void name_worker(const std::string& text, boost::json::object& order) {
  const std::size_t slash = text.find('/');
  if (slash != text.npos) order["hive_id"] = text.substr(0, slash);
  order["worker_id"] = slash == text.npos ? text : text.substr(slash + 1);
}

inline CLI::App* command(CLI::App& parent, const char* name, const char* help, const std::shared_ptr<Common>& common) {
  CLI::App* c = parent.add_subcommand(name, help);
  common->add(*c);
  return c;
}

/// Builds programs in the tree that this one was built in. Returns the exit code.
int rebuild(const Common& common, const std::vector<std::string>& programs);

}  // namespace llorch::keeper
