#include "coord/coord_store.h"

#include <fmt/format.h>

#include <set>

namespace llorch::coord {
namespace {

Failure invalid(std::string message) { return {Problem::kInvalid, std::move(message)}; }

std::optional<Failure> check_key(std::string_view key, std::string_view what) {
  if (key.empty()) return invalid(fmt::format("{}: the key is empty", what));
  if (key.size() > kKeyBytesMax)
    return invalid(fmt::format("{}: the key has {} bytes, at most {} are allowed", what, key.size(), kKeyBytesMax));
  return {};
}

/// A prefix may be empty: everything begins with it.
std::optional<Failure> check_scope(std::string_view key, bool exact, Revision revision, std::string_view what) {
  if (exact || !key.empty()) {
    if (auto bad = check_key(key, what)) return bad;
  }
  if (revision < 0) return invalid(fmt::format("{}: revision {} is negative", what, revision));
  return {};
}

}  // namespace

std::string_view name(Problem problem) {
  switch (problem) {
    case Problem::kConflict: return "conflict";
    case Problem::kUnavailable: return "unavailable";
    case Problem::kCompacted: return "compacted";
    case Problem::kUnauthenticated: return "unauthenticated";
    case Problem::kTooLarge: return "too_large";
    case Problem::kInvalid: return "invalid";
    case Problem::kLeaseNotFound: return "lease_not_found";
  }
  return "unknown";
}

void CoordStore::get(std::string key, Done<Lookup> done) {
  range({.key = std::move(key), .exact = true, .limit = 1}, [done = std::move(done)](Outcome<Page> page) {
    if (!page) return done(std::unexpected(std::move(page).error()));
    Lookup lookup{std::nullopt, page->revision};
    if (!page->entries.empty()) lookup.entry = std::move(page->entries[0]);
    done(std::move(lookup));
  });
}

void CoordStore::put(std::string key, std::string value, std::optional<Revision> expected, Done<Revision> done,
                     LeaseId lease) {
  Transaction t;
  if (expected) t.compares.push_back({key, *expected});
  t.writes.push_back({std::move(key), std::move(value), lease});
  commit(std::move(t), std::move(done));
}

void CoordStore::remove(std::string key, std::optional<Revision> expected, Done<Revision> done) {
  Transaction t;
  if (expected) t.compares.push_back({key, *expected});
  t.writes.push_back({std::move(key), std::nullopt});
  commit(std::move(t), std::move(done));
}

std::optional<Failure> check(const Query& query) {
  if (query.limit < 1 || query.limit > kPageEntriesMax)
    return invalid(fmt::format("range: the limit is {}, it must be 1 to {}", query.limit, kPageEntriesMax));
  if (query.after.size() > kKeyBytesMax) return invalid("range: the key to go on behind is too long");
  return check_scope(query.key, query.exact, query.revision, "range");
}

std::optional<Failure> check(const WatchQuery& query) {
  return check_scope(query.key, query.exact, query.from, "watch");
}

std::optional<Failure> check(const Transaction& transaction) {
  if (transaction.writes.empty()) return invalid("transaction: it writes nothing");
  if (transaction.compares.size() > kOperationsMax || transaction.writes.size() > kOperationsMax)
    return invalid(fmt::format("transaction: {} compares and {} writes, at most {} of each are allowed",
                               transaction.compares.size(), transaction.writes.size(), kOperationsMax));
  std::size_t bytes = 0;
  for (const Compare& c : transaction.compares) {
    if (auto bad = check_key(c.key, "transaction")) return bad;
    if (c.modified < 0) return invalid(fmt::format("transaction: revision {} of '{}' is negative", c.modified, c.key));
    bytes += c.key.size();
  }
  std::set<std::string_view> keys;
  for (const Write& w : transaction.writes) {
    if (auto bad = check_key(w.key, "transaction")) return bad;
    if (!keys.insert(w.key).second) return invalid(fmt::format("transaction: '{}' is written twice", w.key));
    if (w.lease < 0) return invalid(fmt::format("transaction: lease {} of '{}' is negative", w.lease, w.key));
    bytes += w.key.size() + (w.value ? w.value->size() : 0);
  }
  if (bytes > kRequestBytesMax)
    return Failure{Problem::kTooLarge, fmt::format("transaction: keys and values have {} bytes, at most {} are allowed",
                                                   bytes, kRequestBytesMax)};
  return {};
}

std::optional<Failure> check_ttl(std::chrono::seconds ttl) {
  if (ttl >= std::chrono::seconds(1) && ttl <= kTtlMax) return {};
  return invalid(fmt::format("lease: {} s is not from 1 to {} s", ttl.count(), kTtlMax.count()));
}

std::string end_of_prefix(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) prefix.pop_back();
  if (!prefix.empty()) prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

}  // namespace llorch::coord
