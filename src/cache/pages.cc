#include "cache/pages.h"

#include <openssl/evp.h>

#include "base/assert.h"
#include "cache/content.h"

namespace llorch {
namespace {

PageHash sha256(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
  PageHash out{};
  unsigned int size = 0;
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1 &&
                  EVP_DigestUpdate(context, a.data(), a.size()) == 1 &&
                  EVP_DigestUpdate(context, b.data(), b.size()) == 1 &&
                  EVP_DigestFinal_ex(context, out.data(), &size) == 1;
  EVP_MD_CTX_free(context);
  if (!ok || size != out.size()) throw std::bad_alloc();  // nothing else is known to fail there
  return out;
}

std::span<const std::uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

PageHash chain_hash(const PageHash& previous, std::span<const std::int32_t> tokens) {
  return sha256(previous, {reinterpret_cast<const std::uint8_t*>(tokens.data()), tokens.size_bytes()});
}

PageHash root_hash(std::string_view model, std::string_view salt) {
  return sha256(sha256(bytes(model), {}), sha256(bytes(salt), {}));
}

PageHash content_hash(const ContentKey& key, std::span<const std::byte> content) {
  const std::uint8_t group[] = {static_cast<std::uint8_t>(key.group)};
  return sha256(sha256(key.hash, group), {reinterpret_cast<const std::uint8_t*>(content.data()), content.size()});
}

KvPages::KvPages(int pages, bool prefix_cache) : prefix_cache_(prefix_cache), pages_(static_cast<std::size_t>(pages)) {
  free_.reserve(pages_.size());
  for (int p = pages - 1; p >= 0; --p) free_.push_back(p);
}

std::optional<std::int32_t> KvPages::take() {
  if (free_.empty()) {
    if (idle_ == 0) return std::nullopt;
    if (watcher_.leaves) watcher_.leaves(first_idle_, *at(first_idle_).hash);
    forget(first_idle_);
  }
  const std::int32_t page = free_.back();
  free_.pop_back();
  at(page).owners = 1;
  return page;
}

std::optional<std::int32_t> KvPages::share(const PageHash& hash) {
  const auto found = by_hash_.find(hash);
  if (found == by_hash_.end()) return std::nullopt;
  Page& page = at(found->second);
  if (page.owners++ == 0) unlink(found->second);
  return found->second;
}

bool KvPages::idle(const PageHash& hash) const {
  const auto found = by_hash_.find(hash);
  return found != by_hash_.end() && pages_[static_cast<std::size_t>(found->second)].owners == 0;
}

void KvPages::publish(std::int32_t page, const PageHash& hash) {
  if (!prefix_cache_ || at(page).hash || by_hash_.contains(hash)) return;
  by_hash_.emplace(hash, page);
  at(page).hash = hash;
}

void KvPages::drop(std::int32_t page) {
  give_back(page);
  if (at(page).owners == 0 && at(page).hash && watcher_.idles) watcher_.idles(page, *at(page).hash);
}

void KvPages::give_back(std::int32_t page) {
  LLORCH_ASSERT(at(page).owners > 0, "a page was dropped more often than taken");
  if (--at(page).owners > 0) return;
  if (at(page).hash)
    link(page);
  else
    free_.push_back(page);
}

void KvPages::discard(std::int32_t page) {
  give_back(page);
  if (at(page).owners == 0 && at(page).hash) forget(page);
}

/// Takes an idle page out of the cache and makes it free.
void KvPages::forget(std::int32_t page) {
  unlink(page);
  by_hash_.erase(*at(page).hash);
  at(page).hash.reset();
  free_.push_back(page);
}

void KvPages::evict_all() {
  while (idle_ > 0) forget(first_idle_);
}

/// Appends it to the idle pages.
void KvPages::link(std::int32_t page) {
  at(page).before = last_idle_, at(page).after = -1;
  (last_idle_ < 0 ? first_idle_ : at(last_idle_).after) = page;
  last_idle_ = page;
  ++idle_;
}

void KvPages::unlink(std::int32_t page) {
  const Page& p = at(page);
  (p.before < 0 ? first_idle_ : at(p.before).after) = p.after;
  (p.after < 0 ? last_idle_ : at(p.after).before) = p.before;
  --idle_;
}

}  // namespace llorch
