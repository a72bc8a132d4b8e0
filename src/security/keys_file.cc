#include "security/keys_file.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/thread_role.h"

namespace llorch::security {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::int64_t kSettledNs = 1'000'000'000;  // far above the tick of any file system's clock
constexpr auto kPollEvery = std::chrono::milliseconds(500);
constexpr auto kPollLost = std::chrono::seconds(5);
constexpr off_t kInPlaceBytesMax = 64 << 10;  // read where keys are asked for: a millisecond

bool is_large(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && info.st_size > kInPlaceBytesMax;
}

/// Whether a file there can keep who looks at it waiting for another machine or program.
bool may_hang(const std::string& path) {
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code problem;
  while (!folder.empty() && folder.has_relative_path() && !std::filesystem::exists(folder, problem))
    folder = folder.parent_path();
  struct statfs info {};
  if (statfs(folder.empty() ? "." : folder.c_str(), &info) != 0) return false;
  constexpr std::uint32_t kCifs = 0xFF534D42, kCeph = 0x00C36400, kLustre = 0x0BD00BD0, kGfs2 = 0x01161970;
  const auto type = static_cast<std::uint32_t>(info.f_type);
  constexpr std::uint32_t kRemote[] = {NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, SMB2_SUPER_MAGIC, FUSE_SUPER_MAGIC,
                                       V9FS_MAGIC,      AFS_SUPER_MAGIC, CODA_SUPER_MAGIC, OCFS2_SUPER_MAGIC,
                                       kCifs,           kCeph,           kLustre,          kGfs2};
  return std::ranges::find(kRemote, type) != std::end(kRemote);
}

bool lacks(const std::vector<ApiKey>& keys, const ApiKey& k) {
  return std::ranges::none_of(keys,
                              [&](const ApiKey& other) { return other.hash == k.hash && other.scopes == k.scopes; });
}

}  // namespace

/// The thread for files that can hang, and what it has seen last.
struct KeysFile::Poller {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::optional<Look> fresh;  // not taken yet
  Clock::time_point seen = Clock::now();
  bool again = false;  // what was seen last is forgotten
  std::jthread thread;
};

std::optional<KeysFile::Look> KeysFile::look(const std::string& path, const Look& before) {
  Look now;
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT && errno != ENOTDIR)
      now.problem = Error{ErrorCode::kIo, fmt::format("the keys file {}: {}", path, std::strerror(errno))};
    if (now.state == before.state && !now.problem && !before.problem) return std::nullopt;
    return now;
  }
  if (!before.problem && before.settled && FileIdentity::of(info) == before.state) return std::nullopt;
  timespec clock{};
  clock_gettime(CLOCK_REALTIME, &clock);
  const InRole any(ThreadRole::kAny);  // on the event loop only what is small, where the file system cannot hang
  auto keys = read_keys(path, &now.state);
  if (!keys) {
    now.problem = keys.error(), now.state = Look().state;
    return now;
  }
  now.keys = *std::move(keys);
  now.settled = clock.tv_sec * std::int64_t{1'000'000'000} + clock.tv_nsec - now.state.changed_ns >= kSettledNs;
  return now;
}

Result<std::unique_ptr<KeysFile>> KeysFile::open(const std::string& path, KeysFileMode mode) {
  std::unique_ptr<KeysFile> file(new KeysFile(path));
  if (auto first = look(path, file->now_)) {
    if (first->problem) return std::unexpected(*std::move(first->problem));
    file->now_ = *std::move(first);
  }
  if (mode == KeysFileMode::kOwnThread || may_hang(path) || is_large(path)) file->start_poller();
  return file;
}

/// Looks at once, then twice a second.
void KeysFile::start_poller() {
  auto poller = std::make_unique<Poller>();
  Poller& p = *poller;
  p.thread = std::jthread([&p, path = path_, last = now_](const std::stop_token& stop) mutable {
    std::unique_lock lock(p.mutex);
    for (; !stop.stop_requested(); p.wake.wait_for(lock, stop, kPollEvery, [] { return false; })) {
      if (std::exchange(p.again, false)) last = {};
      lock.unlock();
      try {
        auto fresh = look(path, last);
        lock.lock();
        if (fresh) {
          Look kept = *fresh;  // may throw: then neither is changed, and the next look tells it
          p.fresh = std::move(fresh), last = std::move(kept);
        }
        p.seen = Clock::now();
      } catch (const std::exception&) {  // without memory: a file that is not looked at for long counts as lost
        if (!lock.owns_lock()) lock.lock();
      }
    }
  });
  poller_ = std::move(poller);
}

KeysFile::KeysFile(std::string path) : path_(std::move(path)) {}
KeysFile::~KeysFile() = default;

/// What is admitted changes first: tell_ may throw, and a key that is revoked must be refused then, too.
void KeysFile::take(Look fresh) {
  const Look before = std::exchange(now_, std::move(fresh));
  if (!tell_) return;
  const bool news = now_.problem && (!before.problem || before.problem->message != now_.problem->message);
  if (news) tell_("integrity_violation", "", now_.problem->message + ": none of its keys is admitted");
  for (const ApiKey& k : now_.keys)
    if (lacks(before.keys, k)) tell_("token_created", k.label(), text_of(k.scopes));
  for (const ApiKey& k : before.keys)
    if (lacks(now_.keys, k)) tell_("token_revoked", k.label(), text_of(k.scopes));
}

const std::vector<ApiKey>& KeysFile::keys() {
  std::optional<Look> fresh;
  if (!poller_ && is_large(path_)) start_poller();
  if (!poller_) {
    fresh = look(path_, now_);
  } else {
    const std::lock_guard lock(poller_->mutex);
    fresh = std::exchange(poller_->fresh, std::nullopt);
    if (!fresh && Clock::now() - poller_->seen > kPollLost && !now_.problem) {
      poller_->again = true;
      fresh.emplace().problem = Error{ErrorCode::kIo, fmt::format("the file system of {} does not answer", path_)};
    }
  }
  if (fresh) take(*std::move(fresh));
  return now_.keys;
}

}  // namespace llorch::security
