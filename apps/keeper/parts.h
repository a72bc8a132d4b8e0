// What the commands about the colony's parts share: tables for people, and subcommands with the common flags.
#pragma once

#include <memory>

#include "format/json.h"
#include "keeper/session.h"
#include "security/auth.h"

namespace llorch::keeper {

using Value = boost::json::value;

inline std::string cell(const Value& row, const char* key) {
  const auto* o = row.if_object();
  const auto* v = o ? o->if_contains(key) : nullptr;
  if (!v || v->is_null()) return "-";
  if (v->is_double()) return fmt::format("{:.6g}", v->get_double());  // JSON has 7.2E-2 for 0.072
  return v->is_string() ? std::string(v->get_string()) : boost::json::serialize(*v);
}

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

/// Rows under the names of their columns.
inline void print_table(const Value& rows, const std::vector<const char*>& columns) {
  std::vector<Value> all;
  if (rows.is_array())
    all.assign(rows.get_array().begin(), rows.get_array().end());
  else
    all.push_back(rows);
  std::vector<std::size_t> widths;
  for (const char* c : columns) {
    widths.push_back(std::string_view(c).size());
    for (const Value& row : all) widths.back() = std::max(widths.back(), cell(row, c).size());
  }
  for (std::size_t i = 0; i < columns.size(); ++i) show(stdout, "%-*s  ", static_cast<int>(widths[i]), columns[i]);
  show(stdout, "\n");
  for (const Value& row : all) {
    for (std::size_t i = 0; i < columns.size(); ++i)
      show(stdout, "%-*s  ", static_cast<int>(widths[i]), cell(row, columns[i]).c_str());
    show(stdout, "\n");
  }
}

inline CLI::App* command(CLI::App& parent, const char* name, const char* help, const std::shared_ptr<Common>& common) {
  CLI::App* c = parent.add_subcommand(name, help);
  common->add(*c);
  return c;
}

/// Builds programs in the tree that this one was built in. Returns the exit code.
int rebuild(const Common& common, const std::vector<std::string>& programs);

}  // namespace llorch::keeper
