#include "worker/response_store.h"

#include <algorithm>

namespace llorch::worker {

void ResponseStore::put(Kept kept) {
  const std::lock_guard lock(mutex_);
  if (kept.bytes > kBytesMax / 4) return;
  bytes_ += kept.bytes;
  kept_.push_front(std::move(kept));
  while (kept_.size() > kCountMax || bytes_ > kBytesMax) {
    bytes_ -= kept_.back().bytes;
    kept_.pop_back();
  }
}

std::optional<ResponseStore::Kept> ResponseStore::find(const std::string& principal, std::string_view id) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(kept_, [&](const Kept& k) { return k.id == id && k.principal == principal; });
  return found == kept_.end() ? std::nullopt : std::optional(*found);
}

bool ResponseStore::erase(const std::string& principal, std::string_view id) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(kept_, [&](const Kept& k) { return k.id == id && k.principal == principal; });
  if (found == kept_.end()) return false;
  bytes_ -= found->bytes;
  kept_.erase(found);
  return true;
}

}  // namespace llorch::worker
