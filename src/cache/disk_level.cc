#include "cache/disk_level.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "base/descriptor.h"
#include "base/folder.h"
#include "base/ids.h"
#include "base/thread_role.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;

struct Head {
  std::array<char, 16> magic;
  std::uint64_t bytes;
  PageHash hash;
};
constexpr std::array<char, 16> kMagic{'l', 'l', 'o', 'r', 'c', 'h', ' ', 'c', 'a', 'c', 'h', 'e', ' ', '1', '\n', 0};
constexpr std::size_t kHashDigits = 64, kDigestDigits = 16;
/// A file that is not whole after so long is nobody's.
constexpr auto kUnfinishedFor = std::chrono::hours(1);
/// What was seen is believed for so long: another process may remove a file or write it.
constexpr std::chrono::seconds kThereFor{300}, kMissingFor{1};
constexpr std::size_t kKnownMost = 1 << 18;
/// Bytes, or a sixteenth of the limit.
constexpr std::int64_t kCountEvery = 64 << 20;

bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits &&
         std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

/// HASH.GROUP, or HASH.GROUP.RANDOM.new
enum class FileKind { kForeign, kWhole, kUnfinished };
FileKind kind_of(std::string_view name) {
  if (!is_hex(name.substr(0, kHashDigits), kHashDigits) || name.size() < kHashDigits + 2 || name[kHashDigits] != '.')
    return FileKind::kForeign;
  name.remove_prefix(kHashDigits + 1);
  const std::size_t end = std::min(name.find('.'), name.size());
  const std::string_view group = name.substr(0, end);
  const bool known = group == "state" || (group.size() <= 2 && !group.empty() &&
                                          std::ranges::all_of(group, [](char c) { return c >= '0' && c <= '9'; }));
  if (!known) return FileKind::kForeign;
  if (end == name.size()) return FileKind::kWhole;
  name.remove_prefix(end + 1);
  return name.ends_with(".new") && is_hex(name.substr(0, name.size() - 4), 16) ? FileKind::kUnfinished
                                                                               : FileKind::kForeign;
}

/// NAME-DIGEST
bool is_owners_folder(std::string_view name) {
  return name.size() > kDigestDigits + 1 && name[name.size() - kDigestDigits - 1] == '-' &&
         is_hex(name.substr(name.size() - kDigestDigits), kDigestDigits);
}

std::string hex_of(const PageHash& hash) { return to_hex({reinterpret_cast<const char*>(hash.data()), hash.size()}); }

/// Of the model's name, what any file system takes.
std::string plain(std::string name) {
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_') c = '_';
  name.resize(std::min<std::size_t>(name.size(), 100));
  return name;
}

bool write_all(int file, std::span<const std::byte> from) {
  while (!from.empty()) {
    const ssize_t n = ::write(file, from.data(), from.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    from = from.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

bool read_all(int file, std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t n = ::read(file, to.data(), to.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    to = to.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

Status make_folder(const std::string& path) {
  std::error_code problem;
  if (const fs::path parent = fs::path(path).parent_path(); !parent.empty()) fs::create_directories(parent, problem);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail(ErrorCode::kIo, "cannot make {}: {}", path, std::strerror(errno));
  if (!fs::is_directory(path, problem)) return fail(ErrorCode::kIo, "{} is no folder", path);
  if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0)
    return fail(ErrorCode::kIo, "cannot write to {}: {}", path, std::strerror(errno));
  return {};
}

/// A folder that no other user can have filled or can read.
Status make_own_folder(const std::string& path) {
  LLORCH_OK(make_folder(path));
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
    return fail(ErrorCode::kIo, "{} is a link or is gone: it must be a folder", path);
  if (info.st_uid != ::geteuid()) return fail(ErrorCode::kIo, "{} belongs to another user", path);
  if ((info.st_mode & 077) != 0) return fail(ErrorCode::kIo, "{} is open to other users (chmod go= {})", path, path);
  return {};
}

}  // namespace

DiskLevel::DiskLevel(Options options) : options_(std::move(options)) {
  while (options_.folder.size() > 1 && options_.folder.ends_with('/')) options_.folder.pop_back();
  const PageHash digest = root_hash(options_.owner, "");
  place_ = options_.folder + "/" + plain(options_.name) + "-" + hex_of(digest).substr(0, kDigestDigits);
}

Result<std::unique_ptr<DiskLevel>> DiskLevel::open(Options options) {
  std::unique_ptr<DiskLevel> level(new DiskLevel(std::move(options)));
  LLORCH_OK(make_folder(level->options_.folder));
  LLORCH_OK(make_own_folder(level->place_));
  level->make_room();
  return level;
}

std::string DiskLevel::path_of(const ContentKey& key) const {
  return fmt::format("{}/{}.{}", place_, hex_of(key.hash),
                     key.group == kCheckpointGroup ? "state" : std::to_string(key.group));
}

void DiskLevel::note(const ContentKey& key, bool there) {
  const std::lock_guard lock(mutex_);
  if (known_.size() >= kKnownMost) known_.clear();
  known_[key] = {there, std::chrono::steady_clock::now()};
}

/// Looking costs a system call, which also says that the file is in use.
bool DiskLevel::has(const ContentKey& key) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = known_.find(key); found != known_.end())
      if (std::chrono::steady_clock::now() - found->second.when < (found->second.there ? kThereFor : kMissingFor))
        return found->second.there;
  }
  const bool there = ::utimensat(AT_FDCWD, path_of(key).c_str(), nullptr, AT_SYMLINK_NOFOLLOW) == 0;
  note(key, there);
  return there;
}

DiskLevel::Found DiskLevel::get(const ContentKey& key, std::span<std::byte> to) {
  assert_may_block();
  const std::string path = path_of(key);
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  const int problem = errno;
  Head head{};
  std::byte more;
  const bool right = file && read_all(file.number(), std::as_writable_bytes(std::span(&head, 1))) &&
                     head.magic == kMagic && head.bytes == to.size() && read_all(file.number(), to) &&
                     ::read(file.number(), &more, 1) == 0 && content_hash(key, to) == head.hash;
  if (right) {
    ::futimens(file.number(), nullptr);  // used now: it goes last
    return Found::kYes;
  }
  note(key, false);
  if (!file && problem != ELOOP) return Found::kNo;
  ::unlink(path.c_str());
  return Found::kDamaged;
}

Status DiskLevel::put(const ContentKey& key, std::span<const std::byte> content) {
  assert_may_block();
  const std::string path = path_of(key), fresh = path + "." + random_hex(8) + ".new";
  const Head head{kMagic, content.size(), content_hash(key, content)};
  const auto bytes = static_cast<std::int64_t>(sizeof head + content.size());
  if (bytes > options_.bytes_max)
    return fail(ErrorCode::kIo, "{} bytes are more than all that {} may take", bytes, options_.folder);
  const auto failed = [&](int problem) {
    ::unlink(fresh.c_str());
    return fail(ErrorCode::kIo, "cannot write {}: {}", path, std::strerror(problem));
  };
  {
    const auto open = [&] {
      return Descriptor(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    };
    Descriptor file = open();
    if (!file && errno == ENOENT) {  // somebody has emptied the folder and removed it
      LLORCH_OK(make_own_folder(place_));
      file = open();
    }
    if (!file || !write_all(file.number(), std::as_bytes(std::span(&head, 1))) || !write_all(file.number(), content))
      return failed(errno);
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) return failed(errno);
  bytes_ += bytes, written_since_ += bytes;
  note(key, true);
  if (bytes_ > options_.bytes_max || written_since_ > std::max(kCountEvery, options_.bytes_max / 16)) make_room();
  return {};
}

void DiskLevel::make_room() {
  struct File {
    fs::file_time_type used;
    std::int64_t bytes;
    fs::path path;
  };
  std::vector<File> files;
  std::int64_t total = 0;
  std::error_code problem;
  const auto folders = entries_of(options_.folder);
  if (!folders) return;
  for (const fs::directory_entry& folder : *folders) {
    if (!is_owners_folder(folder.path().filename().string()) || folder.is_symlink(problem)) continue;
    const auto entries = entries_of(folder.path().string());
    if (!entries) continue;
    for (const fs::directory_entry& entry : *entries) {
      const FileKind kind = kind_of(entry.path().filename().string());
      if (kind == FileKind::kForeign) continue;
      const auto used = entry.last_write_time(problem);
      if (problem) continue;  // another process removed it
      const auto bytes = static_cast<std::int64_t>(entry.file_size(problem));
      if (problem) continue;
      if (kind == FileKind::kWhole)
        files.push_back({used, bytes, entry.path()}), total += bytes;
      else if (used + kUnfinishedFor < fs::file_time_type::clock::now())
        fs::remove(entry.path(), problem);
    }
  }
  if (total > options_.bytes_max) {
    std::ranges::sort(files, {}, &File::used);
    for (const File& file : files) {
      if (total <= options_.bytes_max / 10 * 9) break;
      fs::remove(file.path, problem);
      if (!problem) total -= file.bytes;
    }
  }
  bytes_ = total, written_since_ = 0;
  const std::lock_guard lock(mutex_);
  known_.clear();  // they are looked for again
}

}  // namespace llorch
