#include "store/database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include "base/thread_role.h"

namespace llorch::store {

std::string Row::text(std::size_t column) const {
  const auto* s = std::get_if<std::string>(&values_.at(column));
  return s ? *s : std::string();
}
std::int64_t Row::integer(std::size_t column) const {
  const auto* i = std::get_if<std::int64_t>(&values_.at(column));
  return i ? *i : 0;
}

Result<std::unique_ptr<Database>> Database::open(const std::string& path,
                                                 const std::vector<std::string_view>& migrations) {
  // SQLite would make it readable by others.
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail(ErrorCode::kIo, "cannot open the database {}", path);
  close(fd);
  sqlite3* handle = nullptr;
  const int problem = sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<Database> db(new Database(handle));
  if (problem != SQLITE_OK)
    return fail(ErrorCode::kIo, "cannot open the database {}: {}", path, sqlite3_errstr(problem));
  sqlite3_busy_timeout(handle, 5000);
  LLORCH_OK(db->execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"));
  if (Status s = db->migrate(migrations); !s) return std::unexpected(std::move(s).error().in(path));
  return db;
}

Database::~Database() { sqlite3_close_v2(handle_); }

Status Database::execute(std::string_view sql) {
  assert_may_block();
  if (sqlite3_exec(handle_, std::string(sql).c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return fail(ErrorCode::kIo, "database: {}", sqlite3_errmsg(handle_));
}

Status Database::migrate(const std::vector<std::string_view>& migrations) {
  LLORCH_TRY(const auto rows, run("PRAGMA user_version"));
  const auto version = static_cast<std::size_t>(rows.at(0).integer(0));
  if (version > migrations.size())
    return fail(ErrorCode::kIo, "its schema has version {}, this program knows {}", version, migrations.size());
  for (std::size_t i = version; i < migrations.size(); ++i)
    LLORCH_OK(execute(fmt::format("BEGIN; {}; PRAGMA user_version={}; COMMIT;", migrations[i], i + 1)));
  return {};
}

Result<std::vector<Row>> Database::run(std::string_view sql, const std::vector<Value>& values) {
  assert_may_block();
  const auto broken = [this] { return fail(ErrorCode::kIo, "database: {}", sqlite3_errmsg(handle_)); };
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v2(handle_, sql.data(), static_cast<int>(sql.size()), &raw, nullptr) != SQLITE_OK)
    return broken();
  const std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement(raw, sqlite3_finalize);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int at = static_cast<int>(i) + 1;
    int problem = SQLITE_OK;
    if (const auto* whole = std::get_if<std::int64_t>(&values[i]))
      problem = sqlite3_bind_int64(raw, at, *whole);
    else if (const auto* real = std::get_if<double>(&values[i]))
      problem = sqlite3_bind_double(raw, at, *real);
    else if (const auto* s = std::get_if<std::string>(&values[i]))
      problem = sqlite3_bind_text64(raw, at, s->data(), s->size(), SQLITE_TRANSIENT, SQLITE_UTF8);
    else
      problem = sqlite3_bind_null(raw, at);
    if (problem != SQLITE_OK) return broken();
  }
  std::vector<Row> rows;
  int step = 0;
  while ((step = sqlite3_step(raw)) == SQLITE_ROW) {
    std::vector<Value> row;
    for (int i = 0; i < sqlite3_column_count(raw); ++i) switch (sqlite3_column_type(raw, i)) {
        case SQLITE_INTEGER: row.emplace_back(static_cast<std::int64_t>(sqlite3_column_int64(raw, i))); break;
        case SQLITE_FLOAT: row.emplace_back(sqlite3_column_double(raw, i)); break;
        case SQLITE_NULL: row.emplace_back(nullptr); break;
        default:
          row.emplace_back(std::string(reinterpret_cast<const char*>(sqlite3_column_text(raw, i)),
                                       static_cast<std::size_t>(sqlite3_column_bytes(raw, i))));
      }
    rows.emplace_back(std::move(row));
  }
  if (step != SQLITE_DONE) return broken();
  return rows;
}

}  // namespace llorch::store
