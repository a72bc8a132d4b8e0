// What the queen keeps over restarts: hives, aliases, and the state of jobs, never a prompt.
//
// load() and the functions that return Status touch the disk: background thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "colony/facts.h"
#include "colony/model_settings.h"
#include "store/database.h"

namespace llorch::queen {

struct HiveRow {
  std::string id, host;
  std::int64_t port = 0;
  std::string node_key;     // SHA-256 (hex) of what a hive that has joined shows; empty: the colony's own token
  std::string joined_host;  // where it said that it answers when it joined
};

struct JobRow {
  std::string id, principal, operation, status, priority, model, prompt_hash, worker_id, hive_id, outcome, error_code;
  std::int64_t created_ms = 0, dispatched_ms = 0, started_ms = 0, completed_ms = 0, tokens = 0, retries = 0;
  std::int64_t last_seq = 0;  // of its events
  std::string last_type;
};

class Catalog {
 public:
  /// Jobs that a queen before us left open become failed; they stand in `lost`.
  [[nodiscard]] static Result<std::unique_ptr<Catalog>> load(const std::string& file);

  std::map<std::string, HiveRow> hives;
  std::map<std::string, std::vector<colony::Model>> models;  // that a hive had when it was last online
  std::map<std::string, std::string> aliases;
  std::set<std::string> pins;        // models whose workers stay
  colony::SettingsByModel settings;  // as the queen was told; her file's are not here
  std::vector<JobRow> lost;

  [[nodiscard]] Status save_hive(const HiveRow& row, const std::string& devices_json, const std::string& models_json);
  [[nodiscard]] Status save_joined(const HiveRow& row);
  [[nodiscard]] Status remove_hive(const std::string& id);
  [[nodiscard]] Status save_alias(const std::string& name, const std::string& ref);
  [[nodiscard]] Status delete_alias(const std::string& name);
  /// All of a model's, in place of those that it had; none where they are empty.
  [[nodiscard]] Status save_settings(const std::string& ref, const colony::ModelSettings& settings);
  [[nodiscard]] Status save_pin(const std::string& ref, bool pinned);
  /// The job, its place in the queue and how far its stream is, all or nothing.
  [[nodiscard]] Status save_job(const JobRow& row);
  /// Only how far their streams are.
  [[nodiscard]] Status save_marks(const std::vector<JobRow>& rows);
  /// What this queen was started with, for whoever looks at the file.
  [[nodiscard]] Status save_config(const std::map<std::string, std::string>& values);

 private:
  [[nodiscard]] Status write_marks(std::span<const JobRow> rows);
  [[nodiscard]] Status all_or_nothing(const std::function<Status()>& work);
  std::unique_ptr<store::Database> db_;
};

}  // namespace llorch::queen
