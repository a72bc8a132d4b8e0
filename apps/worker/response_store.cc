#include "worker/response_store.h"

#include <algorithm>

namespace llorch::worker {

void ResponseStore::put(Kept kept) {
  if (kept.bytes > kBytesMax / 4) return;
  auto shared = std::make_shared<const Kept>(std::move(kept));
  const std::lock_guard lock(mutex_);
  bytes_ += shared->bytes;
  kept_.push_front(std::move(shared));
  while (kept_.size() > kCountMax || bytes_ > kBytesMax) {
    bytes_ -= kept_.back()->bytes;
    kept_.pop_back();
  }
}

std::list<ResponseStore::KeptPtr>::const_iterator ResponseStore::place_of(const std::string& principal,
                                                                          std::string_view id) const {
  return std::ranges::find_if(kept_, [&](const KeptPtr& k) { return k->id == id && k->principal == principal; });
}

ResponseStore::KeptPtr ResponseStore::find(const std::string& principal, std::string_view id) const {
  const std::lock_guard lock(mutex_);
  const auto found = place_of(principal, id);
  return found == kept_.end() ? nullptr : *found;
}

bool ResponseStore::erase(const std::string& principal, std::string_view id) {
  const std::lock_guard lock(mutex_);
  const auto found = place_of(principal, id);
  if (found == kept_.end()) return false;
  bytes_ -= (*found)->bytes;
  kept_.erase(found);
  return true;
}

}  // namespace llorch::worker
