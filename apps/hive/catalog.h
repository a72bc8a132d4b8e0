// What a hive knows and keeps over restarts: models and worker programs (H-23, H-24). SQLite underneath, a copy in
// memory for the event loop.
//
// load() and the *_row functions touch the disk: background thread. The rest: the event loop's.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "colony/facts.h"
#include "store/database.h"

namespace llorch::hive {

struct ModelRow {
  colony::Model model;
  std::string path, sha256;
  std::string identity;  // of the file when it had that hash (security::identity_of)
};
struct WorkerRow {
  colony::WorkerKind worker;
  std::string path, build_id;
};

class Catalog {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Catalog>> load(const std::string& file);

  /// By the model's reference. A file that is gone makes its row unavailable.
  std::map<std::string, ModelRow> models;
  std::map<std::string, WorkerRow> workers;  // by kind

  [[nodiscard]] Status save_row(const ModelRow& row);
  [[nodiscard]] Status delete_row(const std::string& ref);
  [[nodiscard]] Status save_row(const WorkerRow& row);

 private:
  std::unique_ptr<store::Database> db_;
};

}  // namespace llorch::hive
