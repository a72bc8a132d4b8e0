// A SQLite file as daemons use it: write-ahead log, mode 0600, versioned migrations, parameterised statements (Q-10,
// Q-18, H-23).
//
// Errors: kIo with SQLite's words. Threads: one at a time; daemons call it from their background thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

struct sqlite3;

namespace llorch::store {

using Value = std::variant<std::nullptr_t, std::int64_t, double, std::string>;

class Row {
 public:
  explicit Row(std::vector<Value> values) : values_(std::move(values)) {}
  /// Empty and zero for NULL.
  [[nodiscard]] std::string text(std::size_t column) const;
  [[nodiscard]] std::int64_t integer(std::size_t column) const;

 private:
  std::vector<Value> values_;
};

class Database {
 public:
  /// Opens or makes the file, and brings its schema up: migration i takes version i to i + 1.
  [[nodiscard]] static Result<std::unique_ptr<Database>> open(const std::string& path,
                                                              const std::vector<std::string_view>& migrations);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// One statement; its question marks are `values`, in order.
  Result<std::vector<Row>> run(std::string_view sql, const std::vector<Value>& values = {});

 private:
  explicit Database(sqlite3* handle) : handle_(handle) {}
  [[nodiscard]] Status migrate(const std::vector<std::string_view>& migrations);
  [[nodiscard]] Status execute(std::string_view sql);
  sqlite3* handle_;
};

}  // namespace llorch::store
