#include "hive/catalog.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <sstream>

#include "base/clock.h"
#include "base/split_name.h"
#include "builtin/builtin.h"

namespace llorch::hive {
namespace {

std::vector<std::string> split_words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

}  // namespace

Result<std::unique_ptr<Catalog>> Catalog::load(const std::string& file) {
  auto catalog = std::make_unique<Catalog>();
  LLORCH_TRY(catalog->db_, store::Database::open(file, {R"(
    CREATE TABLE models(id TEXT PRIMARY KEY, ref TEXT NOT NULL UNIQUE, name TEXT NOT NULL, path TEXT NOT NULL, size_bytes INTEGER NOT NULL,
                        sha256 TEXT, quant TEXT, status TEXT NOT NULL, error TEXT, added_at INTEGER NOT NULL, last_accessed INTEGER);
    CREATE TABLE workers(id TEXT PRIMARY KEY, kind TEXT NOT NULL, platform TEXT NOT NULL, version TEXT, build_id TEXT, path TEXT NOT NULL,
                         sha256 TEXT, added_at INTEGER NOT NULL))",
                                                        "ALTER TABLE models ADD COLUMN identity TEXT",
                                                        "ALTER TABLE models ADD COLUMN capabilities TEXT"}));
  LLORCH_TRY(
      const auto models,
      catalog->db_->run(
          "SELECT ref, name, path, size_bytes, sha256, quant, status, error, id, identity, capabilities FROM models"));
  for (const store::Row& r : models) {
    ModelRow row{{r.text(8), r.text(0), r.text(1), r.text(5), r.text(6), r.text(7), r.integer(3)},
                 r.text(2),
                 r.text(4),
                 r.text(9)};
    row.model.capabilities = split_words(r.text(10));
    if (size_of_parts(row.path) != row.model.size_bytes)
      row.model.status = "Failed", row.model.error = "its file is gone or has changed";
    catalog->models[row.model.ref] = std::move(row);
  }
  const auto haiku = builtin::find("haiku");
  catalog->models["builtin:haiku"] = {
      {"haiku", "builtin:haiku", "haiku", "", "Available", "", static_cast<std::int64_t>(haiku.size())},
      "builtin:haiku",
      "",
      ""};
  LLORCH_TRY(const auto workers, catalog->db_->run("SELECT id, kind, version, path, build_id FROM workers"));
  for (const store::Row& r : workers)
    if (std::error_code problem; std::filesystem::exists(r.text(3), problem))
      catalog->workers[r.text(1)] = {{r.text(0), r.text(1), r.text(2)}, r.text(3), r.text(4)};
  return catalog;
}

Status Catalog::save_row(const ModelRow& row) {
  const auto& m = row.model;
  LLORCH_TRY(const auto done,
             db_->run("INSERT OR REPLACE INTO models VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",
                      {m.id, m.ref, m.name, row.path, m.size_bytes, row.sha256, m.quant, m.status, m.error, unix_ms(),
                       unix_ms(), row.identity, fmt::format("{}", fmt::join(m.capabilities, " "))}));
  return {};
}

Status Catalog::delete_row(const std::string& ref) {
  LLORCH_TRY(const auto done, db_->run("DELETE FROM models WHERE ref = ?", {ref}));
  return {};
}

Status Catalog::save_row(const WorkerRow& row) {
  LLORCH_TRY(const auto done, db_->run("INSERT OR REPLACE INTO workers VALUES(?,?,?,?,?,?,?,?)",
                                       {row.worker.id, row.worker.kind, "linux", row.worker.version, row.build_id,
                                        row.path, nullptr, unix_ms()}));
  return {};
}

}  // namespace llorch::hive
