#include "queen/migration.h"

#include <unistd.h>

#include <memory>

#include "base/state_lock.h"
#include "queen/membership.h"
#include "queen/shared_entries.h"
#include "security/digest.h"

namespace llorch::queen {
namespace {

using shared::Entries;

constexpr const char* kOwnPlace = "own";

/// A store that is asked and answers before it is asked again.
class BlockingStore {
 public:
  static Result<std::unique_ptr<BlockingStore>> open(const std::string& url, const Migration& m) {
    auto out = std::make_unique<BlockingStore>();
    FleetOptions options = m.fleet;
    options.store = url;
    LLORCH_TRY(out->store_, open_store(out->loop_, options, m.data_dir));
    return out;
  }
  /// But for what goes with a lease.
  Result<Entries> read() {
    Entries out;
    coord::Query query;
    while (true) {
      const auto page =
          wait<coord::Page>([&](coord::Done<coord::Page> done) { store_->range(query, std::move(done)); });
      if (!page) return std::unexpected(coord::to_error(page.error()));
      for (const coord::Entry& e : page->entries)
        if (e.lease == 0) out[e.key] = e.value;
      if (!page->more || page->entries.empty()) return out;
      query.after = page->entries.back().key, query.revision = page->revision;
    }
  }
  Status write(const Entries& entries) {
    for (const auto& [key, value] : entries) {
      const auto put = wait<coord::Revision>(
          [&](coord::Done<coord::Revision> done) { store_->put(key, value, coord::Revision{0}, std::move(done)); });
      if (!put) return std::unexpected(coord::to_error(put.error()).in(key));
    }
    return {};
  }

 private:
  template<class T>
  coord::Outcome<T> wait(const std::function<void(coord::Done<T>)>& call) {
    std::optional<coord::Outcome<T>> answer;
    loop_.post([&] {
      call([&](coord::Outcome<T> outcome) {
        answer = std::move(outcome);
        loop_.stop();
      });
    });
    loop_.run();
    return *std::move(answer);
  }
  net::EventLoop loop_;
  std::unique_ptr<coord::CoordStore> store_;
};

Result<Entries> read_own(const Migration& m) {
  LLORCH_TRY(const auto catalog, Catalog::load(m.data_dir + "/queen.db"));
  security::Authenticator nobody;
  const Membership members(nobody, m.data_dir);
  Entries out = shared::entries_of(*catalog, [&](const std::string& hive) { return members.kept_token(hive); });
  if (m.keys_file.empty() || access(m.keys_file.c_str(), F_OK) != 0) return out;
  LLORCH_TRY(const auto keys, security::read_keys(m.keys_file));
  for (const security::ApiKey& key : keys) out[shared::key_of(shared::kKeys, to_hex(key.hash))] = shared::key_text(key);
  return out;
}

/// One entry in the place where a queen without a store has it.
Status write_own(Catalog& catalog, const Membership& members, const Migration& m, const std::string& key,
                 const Entries& all) {
  const std::string& value = all.at(key);
  const std::string name = key.substr(key.find('/') + 1);
  const auto is = [&](std::string_view what) { return key.starts_with(what); };
  if (is(shared::kAliases)) return catalog.save_alias(name, value);
  if (is(shared::kPins)) return catalog.save_pin(name, true);
  if (is(shared::kSettings)) return catalog.save_settings(name, shared::settings_of(value));
  if (is(shared::kKeys)) {
    LLORCH_TRY(security::ApiKey read, shared::key_of_text(name, value));
    return m.keys_file.empty() ? Status() : security::keep_key(m.keys_file, std::move(read));
  }
  const boost::json::object o = shared::read_object(value);
  if (is(shared::kHives)) {
    LLORCH_OK(members.save(name, shared::text_in(o, "token")));
    return catalog.save_joined(shared::row_of(name, o, {}));
  }
  if (!is(shared::kSeen)) return {};  // of the fleet alone
  boost::json::array models;
  for (const colony::Model& model : shared::models_of(o)) models.push_back(colony::to_json(model));
  return catalog.save_hive(shared::row_of(name, {}, o), "[]", boost::json::serialize(models));
}

Status write_own(const Migration& m, const Entries& entries) {
  LLORCH_TRY(const auto catalog, Catalog::load(m.data_dir + "/queen.db"));
  security::Authenticator nobody;
  const Membership members(nobody, m.data_dir);
  for (const auto& [key, value] : entries)
    if (const Status kept = write_own(*catalog, members, m, key, entries); !kept)
      return std::unexpected(Error(kept.error()).in(key));
  return {};
}

}  // namespace

Result<std::size_t> migrate(const Migration& m) {
  if (m.from == m.to)
    return fail(ErrorCode::kInvalidRequest, "'{}' is where the data is: name another place to move it to", m.to);
  LLORCH_TRY(const StateLock lock, StateLock::take(m.data_dir, "llorch queen migrate"));
  std::unique_ptr<BlockingStore> from, to;
  if (m.from != kOwnPlace) {
    LLORCH_TRY(from, BlockingStore::open(m.from, m));
  }
  if (m.to != kOwnPlace) {
    LLORCH_TRY(to, BlockingStore::open(m.to, m));
  }
  LLORCH_TRY(Entries entries, from ? from->read() : read_own(m));
  LLORCH_TRY(const Entries there, to ? to->read() : read_own(m));
  for (const auto& [key, value] : there) {
    const auto same = entries.find(key);
    if (same == entries.end()) continue;
    const bool volatile_facts = key.starts_with(shared::kSeen) || key == shared::kHouse;
    if (same->second != value && !volatile_facts)
      return fail(ErrorCode::kResourceInUse, "{} has {} already, with another value: nothing was written", m.to, key);
    entries.erase(same);
  }
  // A fleet takes over no queen's own catalog where somebody has laid something in.
  if (to && !there.contains(std::string(shared::kHouse))) entries.try_emplace(std::string(shared::kHouse), "migrated");
  LLORCH_OK(to ? to->write(entries) : write_own(m, entries));
  entries.erase(std::string(shared::kHouse));
  return entries.size();
}

}  // namespace llorch::queen
