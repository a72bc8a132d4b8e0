#include "cache/levels.h"

#include <algorithm>
#include <new>
#include <utility>

#include "base/thread_role.h"

namespace llorch {
namespace {

/// What may wait for the disk. One content may always.
constexpr std::int64_t kUnwrittenMost = 256 << 20;
/// A disk that has failed is left alone for so long.
constexpr std::chrono::seconds kAfterFailure{30};
constexpr std::chrono::milliseconds kWrittenAtTheEnd{500};

std::int64_t size_of(const Content& content) { return static_cast<std::int64_t>(content.size()); }

}  // namespace

CacheLevels::CacheLevels(Options options, std::unique_ptr<DiskLevel> disk)
    : options_(std::move(options)), disk_(std::move(disk)) {
  if (disk_) writer_ = std::jthread([this](const std::stop_token& stop) { write_all(stop); });
}

Result<std::unique_ptr<CacheLevels>> CacheLevels::open(Options options) {
  std::unique_ptr<DiskLevel> disk;
  if (!options.disk.folder.empty()) {
    LLORCH_TRY(disk, DiskLevel::open(options.disk));
  }
  return std::unique_ptr<CacheLevels>(new CacheLevels(std::move(options), std::move(disk)));
}

CacheLevels::~CacheLevels() {
  {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kWrittenAtTheEnd, [this] { return unwritten_.empty(); });
  }
  if (writer_.joinable()) writer_.request_stop(), writer_.join();
}

void CacheLevels::flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return unwritten_.empty(); });
}

void CacheLevels::write_all(const std::stop_token& stop) {
  const InRole role(ThreadRole::kHelper);
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [this] { return !queue_.empty(); }) && !stop.stop_requested()) {
    const ContentKey key = queue_.front();
    const std::shared_ptr<const Content> content = unwritten_.at(key);
    lock.unlock();
    bool written = false;
    try {
      written = disk_->put(key, *content).has_value();
    } catch (const std::exception&) {  // no memory for a name
    }
    ++(written ? written_ : skipped_);
    lock.lock();
    if (!written) failed_until_ = std::chrono::steady_clock::now() + kAfterFailure;
    queue_.pop_front();
    unwritten_.erase(key);
    unwritten_bytes_ -= size_of(*content);
    changed_.notify_all();
  }
}

bool CacheLevels::has(const ContentKey& key) {
  if (by_key_.contains(key)) return true;
  if (!disk_) return false;
  {
    const std::lock_guard lock(mutex_);
    if (unwritten_.contains(key)) return true;
  }
  return disk_->has(key);
}

void CacheLevels::touch(const ContentKey& key) {
  if (const auto found = by_key_.find(key); found != by_key_.end())
    in_memory_.splice(in_memory_.end(), in_memory_, found->second);
}

bool CacheLevels::get(const ContentKey& key, std::span<std::byte> to) {
  const auto take = [&](const Content& from) {
    const bool fits = from.size() == to.size();
    if (fits) std::ranges::copy(from, to.begin());
    return fits;
  };
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    const auto at = found->second;
    if (take(*at->content) && content_hash(key, to) == at->hash) {
      in_memory_.splice(in_memory_.end(), in_memory_, at);
      ++memory_hits_;
      return true;
    }
    ++damaged_;
    drop(at);
  }
  if (!disk_) return false;
  std::shared_ptr<const Content> unwritten;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = unwritten_.find(key); found != unwritten_.end()) unwritten = found->second;
  }
  if (unwritten && take(*unwritten)) {
    ++memory_hits_;
    return true;
  }
  switch (disk_->get(key, to)) {
    case DiskLevel::Found::kYes: ++disk_hits_; return true;
    case DiskLevel::Found::kDamaged: ++damaged_; return false;
    case DiskLevel::Found::kNo: break;
  }
  return false;
}

bool CacheLevels::wants_to_store(const ContentKey& key) {
  if (!disk_) return false;
  {
    const std::lock_guard lock(mutex_);
    if (unwritten_.contains(key) || unwritten_bytes_ >= kUnwrittenMost) return false;
    if (std::chrono::steady_clock::now() < failed_until_) return false;
  }
  return !disk_->has(key);
}

bool CacheLevels::wants_what_leaves(const ContentKey& key) {
  return (options_.memory_bytes > 0 && !by_key_.contains(key)) || wants_to_store(key);
}

void CacheLevels::store(const ContentKey& key, Content content) {
  if (wants_to_store(key)) enqueue(key, std::make_shared<const Content>(std::move(content)));
}

void CacheLevels::leave(const ContentKey& key, Content content) {
  const auto shared = std::make_shared<const Content>(std::move(content));
  const std::int64_t bytes = size_of(*shared);
  if (wants_to_store(key)) enqueue(key, shared);
  if (by_key_.contains(key) || options_.memory_bytes == 0) return;
  if (bytes > options_.memory_bytes) {
    ++skipped_;
    return;
  }
  while (memory_bytes_ + bytes > options_.memory_bytes) drop(in_memory_.begin());
  in_memory_.push_back({key, shared, content_hash(key, *shared)});
  try {
    by_key_.emplace(key, std::prev(in_memory_.end()));
  } catch (...) {
    in_memory_.pop_back();
    throw;
  }
  memory_bytes_ += bytes;
}

void CacheLevels::enqueue(const ContentKey& key, std::shared_ptr<const Content> content) {
  const std::int64_t bytes = size_of(*content);
  const std::lock_guard lock(mutex_);
  if (!unwritten_.empty() && unwritten_bytes_ + bytes > kUnwrittenMost) {
    ++skipped_;
    return;
  }
  queue_.push_back(key);
  try {
    unwritten_.emplace(key, std::move(content));
  } catch (...) {
    queue_.pop_back();
    throw;
  }
  unwritten_bytes_ += bytes;
  changed_.notify_all();
}

void CacheLevels::drop(Order::iterator of) {
  memory_bytes_ -= size_of(*of->content);
  by_key_.erase(of->key);
  in_memory_.erase(of);
}

CacheLevels::Counts CacheLevels::counts() const {
  return {memory_hits_, disk_hits_, written_, skipped_, damaged_, memory_bytes_, disk_ ? disk_->bytes() : 0};
}

}  // namespace llorch
