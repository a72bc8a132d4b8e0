// What the queens of a fleet share: keys with values, changed one transaction at a time, watched, and bound to leases.
//
// Every transaction that changes something gets the next revision of the whole store; a key remembers the revision that
// created it and the one that changed it last. Two stores behave alike and pass one suite (conformance_test.cc): a file
// of SQLite (sqlite_store.h; one process) and etcd (etcd_store.h; many). Reads are linearizable: they show everything
// that was answered before they began.
// Threads: everything on the loop's thread, callbacks too; nothing waits there, but what a server answers (64 MiB at
// most) is read there: ask for small pages. Each call gets exactly one answer, never
// before the call returns, and none after the store is destroyed. Whoever is called back may destroy the store.
// Sources: FLEET 3; etcd's API reference, version 3.4 (KV, Watch, Lease), whose terms are used.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/event_loop.h"

namespace llorch::coord {

using Revision = std::int64_t;  // from 1 on; 0: none
using LeaseId = std::int64_t;   // from 1 on; 0: none

// Limits of one call. etcd refuses requests above 1.5 MiB, and transactions with more than 128 operations.
inline constexpr std::size_t kKeyBytesMax = 1024;
inline constexpr std::size_t kRequestBytesMax = 1'500'000;  // keys and values together, before they are encoded
inline constexpr std::size_t kOperationsMax = 128;          // compares, and writes
inline constexpr int kPageEntriesMax = 1000;
inline constexpr std::chrono::seconds kTtlMax{24 * 60 * 60};

enum class Problem {
  kConflict,         // a key has another revision than expected: Failure::revision is the one it has, 0: it is absent
  kUnavailable,      // nobody answers; the message says who was asked, and why each failed
  kCompacted,        // the revision is no longer kept, or the store was set back behind it: read the keys again; of a
                     // watch, Failure::revision: the first that can be watched; of a range 0
  kUnauthenticated,  // user name, password or permissions
  kTooLarge,         // above kRequestBytesMax: nothing was sent; or a page above 64 MiB: ask for fewer entries
  kInvalid,          // the request makes no sense; the message says where
  kLeaseNotFound,    // it has expired, or was revoked
};
[[nodiscard]] std::string_view name(Problem problem);

struct Failure {
  Problem problem = Problem::kUnavailable;
  std::string message;  // for people
  Revision revision = 0;
  /// Of a write that is kUnavailable: it was sent and not answered. It may have happened, or may still happen.
  bool may_have_happened = false;
};
template<class T>
using Outcome = std::expected<T, Failure>;
template<class T>
using Done = std::function<void(Outcome<T>)>;

struct Entry {
  std::string key, value;
  Revision created = 0, modified = 0;
  LeaseId lease = 0;
  bool operator==(const Entry&) const = default;
};

/// Keys that begin with `key`, or that one key.
struct Query {
  std::string key;
  bool exact = false;
  std::string after;            // only keys behind this one: the last of the page before
  int limit = kPageEntriesMax;  // 1 to kPageEntriesMax
  Revision revision = 0;        // as it was then; 0: now
};
struct Page {
  std::vector<Entry> entries;  // in order of their bytes
  bool more = false;
  Revision revision = 0;  // what was read: the next page asks for it, a watch goes on from the one behind it
};
struct Lookup {
  std::optional<Entry> entry;
  Revision revision = 0;
};

struct Compare {
  std::string key;
  Revision modified = 0;  // what the key must have; 0: it must be absent
};
struct Write {
  std::string key;
  std::optional<std::string> value;  // nothing: the key is removed
  LeaseId lease = 0;                 // the key vanishes with it
};
/// All writes happen, in one revision, if every compare holds; else none. No two writes have the same key.
struct Transaction {
  std::vector<Compare> compares;
  std::vector<Write> writes;
};

/// A change: of a removed key, `entry` has the key and the revision of the removal.
struct Event {
  Entry entry;
  bool removed = false;
  bool operator==(const Event&) const = default;
};
struct WatchQuery {
  std::string key;
  bool exact = false;
  Revision from = 0;  // the first revision that is wanted; 0: changes from now on
};
struct WatchCallbacks {
  /// In order of revisions, none left out and none twice, also across lost connections. The events of one revision
  /// come together.
  std::function<void(const std::vector<Event>&)> on_events;
  /// Once, and nothing after it: kCompacted, kUnauthenticated, kInvalid. Lost connections do not end a watch.
  std::function<void(const Failure&)> on_end;
  /// Whether changes arrive: false, with the reason, when the connection was lost or has been silent for too long; true
  /// when it is there again. May be empty.
  std::function<void(bool connected, const std::string& why)> on_contact;
};
/// As long as it exists, its callbacks come.
class Watch {
 public:
  Watch() = default;
  virtual ~Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
};

struct LeaseGrant {
  LeaseId id = 0;
  std::chrono::seconds ttl{0};  // what the store grants: at least what was asked for
};

class CoordStore {
 public:
  explicit CoordStore(net::EventLoop& loop) : loop_(loop) {}
  virtual ~CoordStore() = default;
  CoordStore(const CoordStore&) = delete;
  CoordStore& operator=(const CoordStore&) = delete;

  /// Errors: kInvalid (limits; a revision of the future), kCompacted, kTooLarge.
  virtual void range(Query query, Done<Page> done) = 0;
  /// Answers with the revision of the transaction. Errors: kConflict with the revision of the first compare that does
  /// not hold; kLeaseNotFound; kTooLarge; kInvalid. A write that was sent is never sent again by itself: see
  /// Failure::may_have_happened.
  virtual void commit(Transaction transaction, Done<Revision> done) = 0;
  [[nodiscard]] virtual std::unique_ptr<Watch> watch(WatchQuery query, WatchCallbacks callbacks) = 0;
  /// `ttl`: 1 s to kTtlMax. The lease ends so long after the last keep_alive(), and its keys are removed.
  virtual void grant(std::chrono::seconds ttl, Done<LeaseGrant> done) = 0;
  /// Answers with the time that it has from now on.
  virtual void keep_alive(LeaseId lease, Done<std::chrono::seconds> done) = 0;
  /// Removes the lease's keys. A lease that has ended is no error.
  virtual void revoke(LeaseId lease, Done<void> done) = 0;
  /// Forgets how keys were before `revision`. What was forgotten already is no error.
  virtual void compact(Revision revision, Done<void> done) = 0;
  /// For messages: "etcd at 10.0.0.1:2379, 10.0.0.2:2379", "SQLite at /var/lib/a.db".
  [[nodiscard]] virtual std::string description() const = 0;

  // The same, for one key.
  void get(std::string key, Done<Lookup> done);
  /// `expected`: the revision that changed the key last, 0: the key must be absent; nothing: whatever it is.
  void put(std::string key, std::string value, std::optional<Revision> expected, Done<Revision> done,
           LeaseId lease = 0);
  void remove(std::string key, std::optional<Revision> expected, Done<Revision> done);

  [[nodiscard]] net::EventLoop& loop() const { return loop_; }

 private:
  net::EventLoop& loop_;
};

/// What both stores refuse before they do anything.
[[nodiscard]] std::optional<Failure> check(const Query& query);
[[nodiscard]] std::optional<Failure> check(const Transaction& transaction);
[[nodiscard]] std::optional<Failure> check(const WatchQuery& query);
[[nodiscard]] std::optional<Failure> check_ttl(std::chrono::seconds ttl);

/// The first key behind all that begin with `prefix`; empty: there is none.
[[nodiscard]] std::string end_of_prefix(std::string prefix);

}  // namespace llorch::coord
