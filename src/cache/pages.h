// Who owns which page of the KV cache, and which finished pages can be used again: a ref-counted prefix cache.
//
// A full page of prompt or output is registered under a chained 256-bit hash of (model, salt, all tokens up to its
// end). A later sequence with the same beginning and the same salt shares the page. Pages without owner stay cached
// until somebody needs room (least recently used first). Checkpoints of recurrent state are kept in the same way, under
// the hash of what they are the state behind. Pure bookkeeping: no memory is touched here; who watches is told while a
// page's content is still there. Threads: the engine's alone.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace llorch {

using PageHash = std::array<std::uint8_t, 32>;

/// SHA-256 over the previous hash and the page's token ids.
[[nodiscard]] PageHash chain_hash(const PageHash& previous, std::span<const std::int32_t> tokens);
[[nodiscard]] PageHash root_hash(std::string_view model, std::string_view salt);

class KvPages {
 public:
  /// Told of cached pages: one that has no owner any more, and one whose place is needed. Must not throw.
  struct Watcher {
    std::function<void(std::int32_t page, const PageHash&hash)> idles, leaves;
  };

  explicit KvPages(int pages, bool prefix_cache = true);
  void watch(Watcher watcher) { watcher_ = std::move(watcher); }

  /// Pages that a new owner could get: unused ones and cached ones without owner.
  [[nodiscard]] int available() const { return static_cast<int>(free_.size() + idle_); }
  [[nodiscard]] int total() const { return static_cast<int>(pages_.size()); }
  [[nodiscard]] int cached() const { return static_cast<int>(by_hash_.size()); }

  /// A page with one owner, evicting a cached one if need be; nullopt when none is left.
  [[nodiscard]] std::optional<std::int32_t> take();
  /// The page registered under this hash, with one more owner.
  [[nodiscard]] std::optional<std::int32_t> share(const PageHash& hash);
  /// True when `hash` is cached and nobody owns it (so sharing it uses up one of available()).
  [[nodiscard]] bool idle(const PageHash& hash) const;
  [[nodiscard]] bool has(const PageHash& hash) const { return by_hash_.contains(hash); }
  /// Makes a full page findable. A second page of the same contents stays unregistered.
  void publish(std::int32_t page, const PageHash& hash);
  /// One owner less. Allocates nothing, so that it works when memory has run out.
  void drop(std::int32_t page);
  /// The same, and the watcher is not told: the content was there below before.
  void give_back(std::int32_t page);
  /// The same of a page that nobody will ask for again: without another owner it is free at once.
  void discard(std::int32_t page);
  /// Forgets every cached page without owner.
  void evict_all();

 private:
  struct Page {
    int owners = 0;
    std::optional<PageHash> hash;
    std::int32_t before = -1, after = -1;  // its neighbours, while it is idle
  };
  void forget(std::int32_t page);
  void link(std::int32_t page);
  void unlink(std::int32_t page);
  Page& at(std::int32_t page) { return pages_[static_cast<std::size_t>(page)]; }

  bool prefix_cache_;
  Watcher watcher_;
  std::vector<Page> pages_;
  std::vector<std::int32_t> free_;                 // has room for all: giving a page back allocates nothing
  std::int32_t first_idle_ = -1, last_idle_ = -1;  // cached, without owner; least recently used first
  std::size_t idle_ = 0;
  std::map<PageHash, std::int32_t> by_hash_;
};

}  // namespace llorch
