#include "coord/sqlite_engine.h"

#include <fmt/format.h>

#include <algorithm>

namespace llorch::coord {
namespace {

constexpr std::string_view kSchema = R"(
  CREATE TABLE history(key TEXT NOT NULL, revision INTEGER NOT NULL, position INTEGER NOT NULL, created INTEGER NOT NULL,
                       lease INTEGER NOT NULL, value TEXT, PRIMARY KEY(key, revision)) WITHOUT ROWID;
  CREATE INDEX history_revision ON history(revision, position);
  CREATE INDEX history_lease ON history(lease) WHERE lease != 0;
  CREATE TABLE leases(id INTEGER PRIMARY KEY, ttl_seconds INTEGER NOT NULL);
  CREATE TABLE numbers(name TEXT PRIMARY KEY, value INTEGER NOT NULL);
  INSERT INTO numbers VALUES('revision', 1), ('compacted', 0), ('lease', 0))";
// A removal is a row whose creation is 0: its value says nothing, since a row's text() is empty for NULL, too.
constexpr std::string_view kColumns = "key, value, created, revision, lease";

Entry entry_of(const store::Row& row) {
  return {row.text(0), row.text(1), row.integer(2), row.integer(3), row.integer(4)};
}

/// The end of the query's keys, and how it is compared: "key < ?" or, where nothing ends them, "?" alone.
std::string scope_sql(const std::string& key, bool exact) {
  if (exact) return "key = ?";
  return end_of_prefix(key).empty() ? "key >= ?" : "key >= ? AND key < ?";
}
std::vector<store::Value> scope_values(const std::string& key, bool exact) {
  std::vector<store::Value> values{key};
  if (std::string end = end_of_prefix(key); !exact && !end.empty()) values.emplace_back(std::move(end));
  return values;
}

}  // namespace

Result<std::unique_ptr<SqliteEngine>> SqliteEngine::open(const std::string& path) {
  LLORCH_TRY(StateLock lock, StateLock::take_file(path + ".lock", "the store " + path, "this program"));
  LLORCH_TRY(auto database, store::Database::open(path, {kSchema}));
  LLORCH_OK(database->run("PRAGMA synchronous=FULL"));
  std::unique_ptr<SqliteEngine> engine(new SqliteEngine(std::move(lock), std::move(database), path));
  LLORCH_OK(engine->load());
  return engine;
}

Status SqliteEngine::load() {
  LLORCH_TRY(const auto numbers, database_->run("SELECT name, value FROM numbers"));
  for (const store::Row& row : numbers) {
    if (row.text(0) == "revision") revision_ = row.integer(1);
    if (row.text(0) == "compacted") compacted_ = row.integer(1);
    if (row.text(0) == "lease") last_lease_ = row.integer(1);
  }
  LLORCH_TRY(const auto leases, database_->run("SELECT id, ttl_seconds FROM leases"));
  for (const store::Row& row : leases) {
    const std::chrono::seconds ttl(row.integer(1));
    leases_[row.integer(0)] = {ttl, BootClock::now() + ttl};
  }
  return {};
}

Failure SqliteEngine::broken(const Error& error) const {
  return {Problem::kUnavailable, fmt::format("the store {}: {}", path_, error.message)};
}

Outcome<std::vector<store::Row>> SqliteEngine::run(std::string_view sql, const std::vector<store::Value>& values) {
  auto rows = database_->run(sql, values);
  if (!rows) return std::unexpected(broken(rows.error()));
  return *std::move(rows);
}

Outcome<Page> SqliteEngine::range(const Query& query) {
  const Revision at = query.revision == 0 ? revision_ : query.revision;
  if (at > revision_)
    return std::unexpected(
        Failure{Problem::kInvalid, fmt::format("range: revision {} has not come yet, it is {}", at, revision_)});
  if (at < compacted_)
    return std::unexpected(
        Failure{Problem::kCompacted, fmt::format("range: revision {} is no longer kept, {} is", at, compacted_)});
  auto values = scope_values(query.key, query.exact);
  values.insert(values.end(), {query.after, at, std::int64_t{query.limit} + 1});
  // No key is empty, so that all are behind an empty `after`.
  LLORCH_TRY(const auto rows,
             run(fmt::format("SELECT {} FROM history h WHERE {} AND key > ? AND created != 0 AND revision = (SELECT "
                             "MAX(revision) FROM history WHERE key = h.key AND revision <= ?) ORDER BY key LIMIT ?",
                             kColumns, scope_sql(query.key, query.exact)),
                 values));
  Page page{{}, rows.size() > static_cast<std::size_t>(query.limit), at};
  for (std::size_t i = 0; i < std::min(rows.size(), static_cast<std::size_t>(query.limit)); ++i)
    page.entries.push_back(entry_of(rows[i]));
  return page;
}

Outcome<std::optional<Entry>> SqliteEngine::current(const std::string& key) {
  LLORCH_TRY(const auto rows,
             run(fmt::format("SELECT {} FROM history WHERE key = ? ORDER BY revision DESC LIMIT 1", kColumns), {key}));
  if (rows.empty() || rows[0].integer(2) == 0) return std::nullopt;
  return entry_of(rows[0]);
}

Outcome<void> SqliteEngine::save(std::string_view name, std::int64_t value) {
  LLORCH_TRY([[maybe_unused]] const auto rows,
             run("UPDATE numbers SET value = ? WHERE name = ?", {value, std::string(name)}));
  return {};
}

Outcome<SqliteEngine::Change> SqliteEngine::atomically(const std::function<Outcome<Change>()>& steps) {
  LLORCH_TRY([[maybe_unused]] const auto begun, run("BEGIN IMMEDIATE"));
  const auto give_up = [this](Failure why) {
    (void)database_->run("ROLLBACK");
    return std::unexpected(std::move(why));
  };
  Outcome<Change> change;
  try {
    change = steps();
  } catch (...) {
    (void)database_->run("ROLLBACK");
    throw;
  }
  if (!change) return give_up(std::move(change).error());
  if (!change->events.empty()) {
    if (auto saved = save("revision", change->revision); !saved) return give_up(std::move(saved).error());
  }
  if (auto ended = run("COMMIT"); !ended) {
    Failure why = std::move(ended).error();
    why.may_have_happened = true;  // it may be in the log that a restart reads
    return give_up(std::move(why));
  }
  revision_ = change->revision;
  return change;
}

/// Within a transaction of the database.
Outcome<SqliteEngine::Change> SqliteEngine::write(const Transaction& transaction) {
  Change change{revision_ + 1, {}};
  for (const Write& w : transaction.writes) {
    LLORCH_TRY(const auto before, current(w.key));
    if (!w.value && !before) continue;
    Event event{{w.key, {}, 0, change.revision, 0}, !w.value};
    if (w.value) {
      event.entry.value = *w.value, event.entry.lease = w.lease;
      event.entry.created = before ? before->created : change.revision;
    }
    LLORCH_TRY([[maybe_unused]] const auto rows,
               run("INSERT INTO history(key, revision, position, created, lease, value) VALUES(?, ?, ?, ?, ?, ?)",
                   {w.key, change.revision, static_cast<std::int64_t>(change.events.size()), event.entry.created,
                    event.entry.lease, event.entry.value}));
    change.events.push_back(std::move(event));
  }
  if (change.events.empty()) change.revision = revision_;
  return change;
}

Outcome<SqliteEngine::Change> SqliteEngine::commit(const Transaction& transaction) {
  for (const Write& w : transaction.writes)
    if (w.lease != 0 && !leases_.contains(w.lease))
      return std::unexpected(Failure{Problem::kLeaseNotFound, fmt::format("lease {} has ended", w.lease)});
  auto change = atomically([&]() -> Outcome<Change> {
    for (const Compare& c : transaction.compares) {
      LLORCH_TRY(const auto now, current(c.key));
      const Revision has = now ? now->modified : 0;
      if (has != c.modified)
        return std::unexpected(
            Failure{Problem::kConflict, fmt::format("'{}' has revision {}, not {}", c.key, has, c.modified), has});
    }
    return write(transaction);
  });
  if (change) compact_by_itself();
  return change;
}

Outcome<LeaseGrant> SqliteEngine::grant(std::chrono::seconds ttl) {
  const LeaseId id = last_lease_ + 1;
  auto saved = atomically([&]() -> Outcome<Change> {
    LLORCH_OK(run("INSERT INTO leases(id, ttl_seconds) VALUES(?, ?)", {id, std::int64_t{ttl.count()}}));
    LLORCH_OK(save("lease", id));
    return Change{revision_, {}};
  });
  if (!saved) return std::unexpected(std::move(saved).error());
  last_lease_ = id;
  leases_[id] = {ttl, BootClock::now() + ttl};
  return LeaseGrant{id, ttl};
}

Outcome<std::chrono::seconds> SqliteEngine::keep_alive(LeaseId lease) {
  const auto at = leases_.find(lease);
  if (at == leases_.end() || at->second.end <= BootClock::now())
    return std::unexpected(Failure{Problem::kLeaseNotFound, fmt::format("lease {} has ended", lease)});
  at->second.end = BootClock::now() + at->second.ttl;
  return at->second.ttl;
}

Outcome<SqliteEngine::Change> SqliteEngine::revoke(LeaseId lease) {
  if (!leases_.contains(lease)) return Change{revision_, {}};
  auto change = atomically([&]() -> Outcome<Change> {
    LLORCH_TRY(const auto rows, run("SELECT key FROM history h WHERE lease = ? AND revision = (SELECT MAX(revision) "
                                    "FROM history WHERE key = h.key) ORDER BY key",
                                    {lease}));
    Transaction t;
    for (const store::Row& row : rows) t.writes.push_back({row.text(0), std::nullopt});
    LLORCH_OK(run("DELETE FROM leases WHERE id = ?", {lease}));
    return write(t);
  });
  if (change) {
    leases_.erase(lease);
  } else {  // of the disk: it is tried again, not at once
    leases_[lease].end = BootClock::now() + std::chrono::seconds(1);
  }
  return change;
}

Outcome<void> SqliteEngine::compact(Revision revision) {
  if (revision <= compacted_) return {};
  if (revision > revision_)
    return std::unexpected(Failure{
        Problem::kInvalid, fmt::format("compact: revision {} has not come yet, it is {}", revision, revision_)});
  auto change = atomically([&]() -> Outcome<Change> {
    LLORCH_OK(
        run("DELETE FROM history WHERE revision <= ? AND (created = 0 OR revision < (SELECT MAX(revision) FROM "
            "history AS newer WHERE newer.key = history.key AND newer.revision <= ?))",
            {revision, revision}));
    LLORCH_OK(save("compacted", revision));
    return Change{revision_, {}};
  });
  if (!change) return std::unexpected(std::move(change).error());
  compacted_ = revision;
  return {};
}

void SqliteEngine::compact_by_itself() {
  if (revision_ - compacted_ >= kRevisionsKept + kCompactedAtOnce) (void)compact(revision_ - kRevisionsKept);
}

Outcome<std::vector<Event>> SqliteEngine::history(const WatchQuery& query) {
  std::vector<Event> events;
  if (query.from == 0 || query.from > revision_) return events;
  if (query.from <= compacted_)
    return std::unexpected(Failure{
        Problem::kCompacted, fmt::format("watch: revision {} is no longer kept, {} is", query.from, compacted_ + 1),
        compacted_ + 1});
  auto values = scope_values(query.key, query.exact);
  values.emplace_back(query.from);
  LLORCH_TRY(const auto rows, run(fmt::format("SELECT {} FROM history WHERE {} AND revision >= ? ORDER BY revision, "
                                              "position",
                                              kColumns, scope_sql(query.key, query.exact)),
                                  values));
  for (const store::Row& row : rows) {
    Event event{entry_of(row), row.integer(2) == 0};
    events.push_back(std::move(event));
  }
  return events;
}

LeaseId SqliteEngine::overdue() const {
  const auto now = BootClock::now();
  const auto at = std::ranges::find_if(leases_, [&](const auto& l) { return l.second.end <= now; });
  return at == leases_.end() ? 0 : at->first;
}

BootClock::time_point SqliteEngine::next_overdue() const {
  auto next = BootClock::time_point::max();
  for (const auto& [id, lease] : leases_) next = std::min(next, lease.end);
  return next;
}

}  // namespace llorch::coord
