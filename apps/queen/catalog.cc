#include "queen/catalog.h"
#include "base/clock.h"
#include "queen/model_resolver.h"

#include <chrono>

namespace llorch::queen {
namespace {

constexpr std::int64_t kRetentionMs = std::int64_t{7} * 24 * 3600 * 1000;

constexpr std::string_view kSchema = R"(
  CREATE TABLE hives(id TEXT PRIMARY KEY, host TEXT NOT NULL, port INTEGER NOT NULL, ssh_host TEXT, ssh_port INTEGER, ssh_user TEXT, binary_path TEXT,
                     devices_json TEXT, created_at_ms INTEGER NOT NULL, updated_at_ms INTEGER NOT NULL);
  CREATE TABLE aliases(name TEXT PRIMARY KEY, ref TEXT NOT NULL);
  CREATE TABLE jobs(job_id TEXT PRIMARY KEY, tenant_id TEXT, session_id TEXT, operation TEXT, status TEXT NOT NULL, priority TEXT, model_ref TEXT, prompt_hash TEXT,
                    max_tokens INTEGER, seed INTEGER, worker_id TEXT, pool_id TEXT, created_at INTEGER NOT NULL, queued_at INTEGER, dispatched_at INTEGER, started_at INTEGER,
                    completed_at INTEGER, outcome TEXT, error_code TEXT, tokens_generated INTEGER, retry_count INTEGER, last_error TEXT);
  CREATE INDEX jobs_by_status ON jobs(status);
  CREATE TABLE config(key TEXT PRIMARY KEY, value TEXT, updated_at INTEGER))";

constexpr std::string_view kNodeKeys = "ALTER TABLE hives ADD COLUMN node_key_sha256 TEXT";

// Quotas are kept and not yet asked for: tenants come later (S-22).
constexpr std::string_view kQueue = R"(
  CREATE TABLE queue(job_id TEXT PRIMARY KEY, priority TEXT NOT NULL, queued_at INTEGER NOT NULL, tenant_id TEXT);
  CREATE INDEX queue_in_order ON queue(priority, queued_at);
  CREATE TABLE sse_checkpoints(job_id TEXT PRIMARY KEY, last_event_seq INTEGER NOT NULL, last_event_type TEXT NOT NULL, updated_at INTEGER NOT NULL);
  CREATE TABLE tenant_quotas(tenant_id TEXT PRIMARY KEY, max_concurrent_jobs INTEGER, max_vram_bytes INTEGER, token_budget_daily INTEGER,
                             tokens_used_today INTEGER NOT NULL DEFAULT 0, quota_reset_at INTEGER))";

constexpr std::string_view kJoinedHost = "ALTER TABLE hives ADD COLUMN joined_host TEXT";

constexpr std::string_view kPins = "CREATE TABLE pins(ref TEXT PRIMARY KEY)";

constexpr std::string_view kModelSettings =
    "CREATE TABLE model_settings(ref TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(ref, key))";

constexpr std::string_view kHiveModels = "ALTER TABLE hives ADD COLUMN models_json TEXT";

/// What save_hive() kept; nothing where there is none, or of another version.
std::vector<colony::Model> read_models(const std::string& text) {
  boost::system::error_code problem;
  auto list = boost::json::parse(text.empty() ? "[]" : text, problem);
  if (problem) return {};
  const auto read = colony::read_capabilities(boost::json::object{
      {"devices", boost::json::array()}, {"models", std::move(list)}, {"workers_available", boost::json::array()}});
  return read ? read->models : std::vector<colony::Model>();
}

store::Value when(std::int64_t ms) { return ms > 0 ? store::Value(ms) : store::Value(nullptr); }

}  // namespace

Result<std::unique_ptr<Catalog>> Catalog::load(const std::string& file) {
  auto c = std::make_unique<Catalog>();
  LLORCH_TRY(c->db_, store::Database::open(
                         file, {kSchema, kNodeKeys, kQueue, kJoinedHost, kPins, kModelSettings, kHiveModels}));
  LLORCH_TRY(const auto hives,
             c->db_->run("SELECT id, host, port, node_key_sha256, joined_host, models_json FROM hives"));
  for (const store::Row& r : hives) {
    c->hives[r.text(0)] = {r.text(0), r.text(1), r.integer(2), r.text(3), r.text(4)};
    c->models[r.text(0)] = read_models(r.text(5));
  }
  LLORCH_TRY(const auto aliases, c->db_->run("SELECT name, ref FROM aliases"));
  for (const store::Row& r : aliases) c->aliases[r.text(0)] = r.text(1);
  LLORCH_TRY(const auto pins, c->db_->run("SELECT ref FROM pins"));
  for (const store::Row& r : pins) c->pins.insert(r.text(0));
  LLORCH_TRY(const auto settings, c->db_->run("SELECT ref, key, value FROM model_settings"));
  for (const store::Row& r : settings)  // one that a later version knows is none of ours
    if (colony::ModelSettings& of = c->settings[r.text(0)]; !of.set(r.text(1), r.text(2)) && of.empty())
      c->settings.erase(r.text(0));
  for (const auto& [name, ref] : builtin_aliases()) c->aliases[name] = ref;
  LLORCH_TRY(const auto open,
             c->db_->run("SELECT job_id, tenant_id, operation, last_event_seq FROM jobs LEFT JOIN sse_checkpoints "
                         "USING(job_id) WHERE status IN ('queued', 'running')"));
  for (const store::Row& r : open) {
    JobRow row;
    row.id = r.text(0), row.principal = r.text(1), row.operation = r.text(2), row.last_seq = r.integer(3);
    c->lost.push_back(std::move(row));
  }
  LLORCH_TRY(
      const auto failed,
      c->db_->run(
          "UPDATE jobs SET status = 'failed', outcome = 'failed', error_code = 'WORKER_CRASHED', completed_at = ?, "
          "last_error = 'the queen was restarted' WHERE status IN ('queued', 'running')",
          {unix_ms()}));
  LLORCH_TRY(const auto emptied, c->db_->run("DELETE FROM queue"));
  LLORCH_TRY(const auto old, c->db_->run("DELETE FROM jobs WHERE created_at < ?", {unix_ms() - kRetentionMs}));
  LLORCH_TRY(const auto unread,
             c->db_->run("DELETE FROM sse_checkpoints WHERE job_id NOT IN (SELECT job_id FROM jobs)"));
  return c;
}

Status Catalog::save_hive(const HiveRow& row, const std::string& devices_json, const std::string& models_json) {
  LLORCH_TRY(const auto done,
             db_->run("INSERT INTO hives(id, host, port, devices_json, models_json, created_at_ms, updated_at_ms) "
                      "VALUES(?,?,?,?,?,?,?) "
                      "ON CONFLICT(id) DO UPDATE SET host = excluded.host, port = excluded.port, devices_json = "
                      "excluded.devices_json, models_json = excluded.models_json, "
                      "updated_at_ms = excluded.updated_at_ms",
                      {row.id, row.host, row.port, devices_json, models_json, unix_ms(), unix_ms()}));
  return {};
}

Status Catalog::save_joined(const HiveRow& row) {
  LLORCH_TRY(const auto done,
             db_->run("INSERT INTO hives(id, host, port, node_key_sha256, joined_host, created_at_ms, updated_at_ms) "
                      "VALUES(?, '', 0, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET node_key_sha256 = "
                      "excluded.node_key_sha256, joined_host = excluded.joined_host, updated_at_ms = "
                      "excluded.updated_at_ms",
                      {row.id, row.node_key, row.joined_host, unix_ms(), unix_ms()}));
  return {};
}

Status Catalog::remove_hive(const std::string& id) {
  LLORCH_TRY(const auto done, db_->run("DELETE FROM hives WHERE id = ?", {id}));
  return {};
}

Status Catalog::save_alias(const std::string& name, const std::string& ref) {
  LLORCH_TRY(const auto done, db_->run("INSERT OR REPLACE INTO aliases VALUES(?,?)", {name, ref}));
  return {};
}

Status Catalog::delete_alias(const std::string& name) {
  LLORCH_TRY(const auto done, db_->run("DELETE FROM aliases WHERE name = ?", {name}));
  return {};
}

Status Catalog::save_settings(const std::string& ref, const colony::ModelSettings& settings) {
  return all_or_nothing([&]() -> Status {
    LLORCH_TRY(const auto gone, db_->run("DELETE FROM model_settings WHERE ref = ?", {ref}));
    for (const auto& [key, value] : settings.all()) {
      LLORCH_TRY(const auto kept, db_->run("INSERT INTO model_settings VALUES(?,?,?)", {ref, key, value}));
    }
    return {};
  });
}

Status Catalog::save_pin(const std::string& ref, bool pinned) {
  LLORCH_TRY(const auto done,
             db_->run(pinned ? "INSERT OR REPLACE INTO pins VALUES(?)" : "DELETE FROM pins WHERE ref = ?", {ref}));
  return {};
}

Status Catalog::all_or_nothing(const std::function<Status()>& work) {
  LLORCH_TRY(const auto begun, db_->run("BEGIN IMMEDIATE"));
  Status done = work();
  const auto ended = db_->run(done ? "COMMIT" : "ROLLBACK");
  if (done && !ended) return std::unexpected(ended.error());
  return done;
}

Status Catalog::save_job(const JobRow& r) {
  return all_or_nothing([&]() -> Status {
    LLORCH_TRY(const auto done,
               db_->run("INSERT OR REPLACE INTO jobs(job_id, tenant_id, operation, status, priority, model_ref, "
                        "prompt_hash, worker_id, pool_id, created_at, queued_at, "
                        "dispatched_at, started_at, completed_at, outcome, error_code, tokens_generated, retry_count) "
                        "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                        {r.id, r.principal, r.operation, r.status, r.priority, r.model, r.prompt_hash, r.worker_id,
                         r.hive_id, r.created_ms, r.created_ms, when(r.dispatched_ms), when(r.started_ms),
                         when(r.completed_ms), r.outcome, r.error_code, r.tokens, r.retries}));
    LLORCH_TRY(const auto placed, r.status == "queued" ? db_->run("INSERT OR REPLACE INTO queue VALUES(?,?,?,?)",
                                                                  {r.id, r.priority, r.created_ms, r.principal})
                                                       : db_->run("DELETE FROM queue WHERE job_id = ?", {r.id}));
    return write_marks({&r, 1});
  });
}

Status Catalog::save_marks(const std::vector<JobRow>& rows) {
  return all_or_nothing([&] { return write_marks(rows); });
}

Status Catalog::write_marks(std::span<const JobRow> rows) {
  constexpr std::size_t kTogether = 200;  // rows of one statement
  for (; !rows.empty(); rows = rows.subspan(std::min(kTogether, rows.size()))) {
    std::string sql;
    std::vector<store::Value> values;
    for (const JobRow& r : rows.first(std::min(kTogether, rows.size()))) {
      sql += sql.empty() ? "INSERT OR REPLACE INTO sse_checkpoints VALUES(?,?,?,?)" : ",(?,?,?,?)";
      values.insert(values.end(), {r.id, r.last_seq, r.last_type, unix_ms()});
    }
    LLORCH_TRY(const auto done, db_->run(sql, values));
  }
  return {};
}

Status Catalog::save_config(const std::map<std::string, std::string>& values) {
  return all_or_nothing([&]() -> Status {
    for (const auto& [key, value] : values) {
      LLORCH_TRY(const auto done, db_->run("INSERT INTO config VALUES(?1,?2,?3) ON CONFLICT(key) DO UPDATE SET value = "
                                           "?2, updated_at = ?3 WHERE value <> ?2",
                                           {key, value, unix_ms()}));
    }
    return {};
  });
}

}  // namespace llorch::queen
