#include "coord/etcd_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "coord/etcd_client.h"
#include "coord/etcd_watch.h"
#include "format/json.h"

namespace llorch::coord {
namespace {

using namespace etcd;  // NOLINT(google-build-using-namespace): what etcd_*.h are for

class EtcdStore final : public CoordStore {
 public:
  EtcdStore(net::EventLoop& loop, EtcdOptions options)
      : CoordStore(loop),
        data_(options.prefix + "/data/"),
        client_(loop, options),
        watches_(client_, data_, options.prefix + "/pulse") {}

  void range(Query query, Done<Page> done) override;
  void commit(Transaction transaction, Done<Revision> done) override;
  std::unique_ptr<Watch> watch(WatchQuery query, WatchCallbacks callbacks) override {
    return watches_.open(std::move(query), std::move(callbacks));
  }
  void grant(std::chrono::seconds ttl, Done<LeaseGrant> done) override;
  void keep_alive(LeaseId lease, Done<std::chrono::seconds> done) override;
  void revoke(LeaseId lease, Done<void> done) override;
  void compact(Revision revision, Done<void> done) override;
  std::string description() const override { return client_.description(); }

 private:
  /// Asks, and gives what `read` makes of the answer.
  template<class T, class Read>
  void ask(std::string path, std::string body, bool may_repeat, Read read, Done<T> done) {
    auto got = std::make_shared<std::optional<T>>();
    const auto take = [got, read = std::move(read)](const bj::object& answer) -> Status {
      LLORCH_TRY(*got, read(answer));
      return {};
    };
    client_.ask({std::move(path), std::move(body), may_repeat, take}, [got, done = std::move(done)](Outcome<void> o) {
      if (!o) return done(std::unexpected(std::move(o).error()));
      done(*std::move(*got));
    });
  }
  template<class T>
  void refuse(Failure why, Done<T> done) {
    const std::uint64_t number = ++refusals_;
    refused_[number] = loop().after({}, [this, number, why = std::move(why), done = std::move(done)] {
      const auto timer = refused_.extract(number);  // destroyed behind the call
      done(std::unexpected(why));
    });
  }
  [[nodiscard]] KeyRange keys_of(const Query& query) const;

  std::string data_;
  std::map<std::uint64_t, net::EventLoop::Timer> refused_;
  std::uint64_t refusals_ = 0;
  Client client_;
  Watches watches_;
};

KeyRange EtcdStore::keys_of(const Query& query) const {
  KeyRange keys{data_ + query.key, {}};
  if (query.exact) return keys;
  keys.end = end_of_prefix(keys.first);
  // The first key behind another one is that with a zero byte at its end.
  if (!query.after.empty()) keys.first = std::max(keys.first, data_ + query.after + '\0');
  return keys;
}

void EtcdStore::range(Query query, Done<Page> done) {
  if (auto bad = check(query)) return refuse(*std::move(bad), std::move(done));
  const KeyRange keys = keys_of(query);
  if (!keys.end.empty() && keys.first >= keys.end) {  // nothing can be behind `after`: only the revision is asked for
    query.exact = true, query.limit = 1, query.key = "~";
    return range(std::move(query), [done = std::move(done)](Outcome<Page> page) {
      if (!page) return done(std::move(page));
      done(Page{{}, false, page->revision});
    });
  }
  const auto read = [this, keys, limit = query.limit, at = query.revision](const bj::object& answer) -> Result<Page> {
    LLORCH_TRY(Page page, read_page(answer, keys, limit));
    for (Entry& e : page.entries) e.key.erase(0, data_.size());
    if (at != 0) page.revision = at;
    return page;
  };
  ask<Page>("/v3/kv/range", range_request(keys, query.limit, query.revision), true, read, std::move(done));
}

void EtcdStore::commit(Transaction transaction, Done<Revision> done) {
  if (auto bad = check(transaction)) return refuse(*std::move(bad), std::move(done));
  for (Compare& c : transaction.compares) c.key.insert(0, data_);
  for (Write& w : transaction.writes) w.key.insert(0, data_);
  std::string body = commit_request(transaction);
  const auto read = [compares = transaction.compares.size(), writes = transaction.writes.size()](
                        const bj::object& answer) { return read_commit(answer, compares, writes); };
  const auto take = [compares = std::move(transaction.compares), prefix = data_.size(),
                     done = std::move(done)](Outcome<CommitAnswer> a) {
    if (!a) return done(std::unexpected(std::move(a).error()));
    if (a->succeeded) return done(a->revision);
    for (std::size_t i = 0; i < compares.size(); ++i) {
      const Revision has = a->modified[i];
      if (has != compares[i].modified)
        return done(std::unexpected(Failure{
            Problem::kConflict,
            fmt::format("'{}' has revision {}, not {}", compares[i].key.substr(prefix), has, compares[i].modified),
            has}));
    }
    done(
        std::unexpected(Failure{Problem::kUnavailable, "etcd says that a transaction failed whose compares all hold"}));
  };
  ask<CommitAnswer>("/v3/kv/txn", std::move(body), false, read, Done<CommitAnswer>(take));
}

void EtcdStore::grant(std::chrono::seconds ttl, Done<LeaseGrant> done) {
  if (auto bad = check_ttl(ttl)) return refuse(*std::move(bad), std::move(done));
  const auto read = [ttl](const bj::object& answer) -> Result<LeaseGrant> {
    LLORCH_TRY(const LeaseId id, read_number(answer, "ID"));
    LLORCH_TRY(const std::int64_t seconds, read_number(answer, "TTL"));
    if (id == 0 || seconds < ttl.count() || seconds > 2 * kTtlMax.count())
      return fail(ErrorCode::kIo, "'ID' or 'TTL' of a lease is missing or out of bounds");
    return LeaseGrant{id, std::chrono::seconds(seconds)};
  };
  // One that was made twice ends by itself.
  ask<LeaseGrant>("/v3/lease/grant", number_request("TTL", ttl.count()), true, read, std::move(done));
}

void EtcdStore::keep_alive(LeaseId lease, Done<std::chrono::seconds> done) {
  const auto read = [lease](const bj::object& answer) -> Result<std::int64_t> {
    const bj::object* result = json::find_object(answer, "result");
    if (!result) return fail(ErrorCode::kIo, "'result' is missing");
    LLORCH_TRY(const LeaseId id, read_number(*result, "ID"));
    if (id != lease) return fail(ErrorCode::kIo, "'ID' is another lease's");
    LLORCH_TRY(const std::int64_t seconds, read_number(*result, "TTL"));
    if (seconds > 2 * kTtlMax.count()) return fail(ErrorCode::kIo, "'TTL' is out of bounds");
    return seconds;
  };
  ask<std::int64_t>("/v3/lease/keepalive", number_request("ID", lease), true, read,
                    [lease, done = std::move(done)](Outcome<std::int64_t> seconds) {
                      if (!seconds) return done(std::unexpected(std::move(seconds).error()));
                      if (*seconds > 0) return done(std::chrono::seconds(*seconds));
                      done(std::unexpected(Failure{Problem::kLeaseNotFound, fmt::format("lease {} has ended", lease)}));
                    });
}

void EtcdStore::revoke(LeaseId lease, Done<void> done) {
  client_.ask({"/v3/lease/revoke", number_request("ID", lease), true, nullptr},
              [done = std::move(done)](Outcome<void> outcome) {
                if (!outcome && outcome.error().problem == Problem::kLeaseNotFound) return done({});
                done(std::move(outcome));
              });
}

void EtcdStore::compact(Revision revision, Done<void> done) {
  client_.ask({"/v3/kv/compaction", number_request("revision", revision), true, nullptr},
              [done = std::move(done)](Outcome<void> outcome) {
                if (!outcome && outcome.error().problem == Problem::kCompacted) return done({});
                done(std::move(outcome));
              });
}

}  // namespace

std::unique_ptr<CoordStore> make_etcd_store(net::EventLoop& loop, EtcdOptions options) {
  return std::make_unique<EtcdStore>(loop, std::move(options));
}

}  // namespace llorch::coord
