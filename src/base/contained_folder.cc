#include "base/contained_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>

#include "base/ids.h"
#include "base/path_name.h"
#include "base/thread_role.h"

namespace llorch {
namespace {

constexpr int kFolderFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

std::unexpected<Error> system_error(std::string_view what) {
  return fail(ErrorCode::kIo, "cannot {}: {}", what, std::strerror(errno));
}

/// -1 with errno; ENOSYS where the kernel or a sandbox does not know the call.
int open_beneath(int root, const std::string& name) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const int fd = static_cast<int>(::syscall(SYS_openat2, root, name.c_str(), &how, sizeof how));
  if (fd < 0 && (errno == EPERM || errno == EINVAL || errno == E2BIG)) errno = ENOSYS;
  return fd;
}

/// Calls `visit` with each component; it returns false to stop.
template<class Visit>
bool each_component(std::string_view name, Visit visit) {
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('/', at), name.size());
    if (!visit(std::string(name.substr(at, end - at)))) return false;
    at = end + 1;
  }
  return true;
}

/// `target` as seen from the folder that holds `name`, both below one root.
std::string relative_to(std::string_view name, std::string_view target) {
  for (std::size_t slash; (slash = name.find('/')) != name.npos && target.starts_with(name.substr(0, slash + 1));)
    name.remove_prefix(slash + 1), target.remove_prefix(slash + 1);
  std::string up;
  for (auto n = std::ranges::count(name, '/'); n > 0; --n) up += "../";
  return up + std::string(target);
}

}  // namespace

struct ContainedFolder::Place {
  Descriptor folder;
  std::string name;
};

Result<ContainedFolder> ContainedFolder::open(const std::string& path, Lookup lookup) {
  assert_may_block();
  std::error_code problem;
  std::filesystem::create_directories(path, problem);
  Descriptor root(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail(ErrorCode::kIo, "cannot open the folder {}: {}", path, std::strerror(errno));
  return ContainedFolder(path, std::move(root), lookup);
}

Result<Descriptor> ContainedFolder::open_folder(std::string_view name) const {
  if (name.empty()) {
    Descriptor same(::fcntl(root_.number(), F_DUPFD_CLOEXEC, 0));
    if (!same) return system_error("open the folder");
    return same;
  }
  if (lookup_ == Lookup::kKernel) {
    Descriptor found(open_beneath(root_.number(), std::string(name)));
    if (found) return found;
    if (errno != ENOSYS) return system_error("open a folder below it");
  }
  Descriptor at(::fcntl(root_.number(), F_DUPFD_CLOEXEC, 0));
  const bool found = each_component(name, [&](const std::string& part) {
    at = Descriptor(::openat(at.number(), part.c_str(), kFolderFlags));
    return static_cast<bool>(at);
  });
  if (!found) return system_error("open a folder below it");
  return at;
}

Result<ContainedFolder::Place> ContainedFolder::place_of(std::string_view name) const {
  assert_may_block();
  if (const PathFlaw flaw = check_relative_path(name); flaw != PathFlaw::kNone)
    return fail(ErrorCode::kInvalidRequest, "a file name {}", describe(flaw));
  const std::size_t slash = name.rfind('/');
  LLORCH_TRY(Descriptor folder, open_folder(slash == name.npos ? std::string_view() : name.substr(0, slash)));
  return Place{std::move(folder), std::string(slash == name.npos ? name : name.substr(slash + 1))};
}

Result<Descriptor> ContainedFolder::open_file(std::string_view name, int flags) const {
  LLORCH_TRY(const Place place, place_of(name));
  Descriptor file(
      ::openat(place.folder.number(), place.name.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666));
  if (!file) return system_error("open a file in the folder");
  struct stat info {};
  if (::fstat(file.number(), &info) != 0 || !S_ISREG(info.st_mode))
    return fail(ErrorCode::kIo, "a name in the folder is taken by something that is no regular file");
  return file;
}

Result<std::optional<ContainedFolder::Entry>> ContainedFolder::find(std::string_view name) const {
  LLORCH_TRY(const Place place, place_of(name));
  struct stat info {};
  if (::fstatat(place.folder.number(), place.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return std::nullopt;
    return system_error("look into the folder");
  }
  return Entry{S_ISREG(info.st_mode), S_ISLNK(info.st_mode), info.st_size};
}

Result<std::string> ContainedFolder::read_link(std::string_view name) const {
  LLORCH_TRY(const Place place, place_of(name));
  std::string text(4096, '\0');
  const ssize_t n = ::readlinkat(place.folder.number(), place.name.c_str(), text.data(), text.size());
  if (n < 0) return system_error("read a link in the folder");
  if (static_cast<std::size_t>(n) == text.size()) return fail(ErrorCode::kIo, "a link in the folder is too long");
  text.resize(static_cast<std::size_t>(n));
  return text;
}

Result<std::vector<ContainedFolder::Listed>> ContainedFolder::list(std::string_view name, std::size_t count_max) const {
  LLORCH_TRY(const Place place, place_of(name));
  const int fd = ::openat(place.folder.number(), place.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return std::vector<Listed>();
  if (fd < 0) return system_error("list a folder");
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::fdopendir(fd), ::closedir);
  if (!folder) {
    const auto problem = system_error("list a folder");
    ::close(fd);
    return problem;
  }
  std::vector<Listed> all;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(folder.get());
    if (!entry && errno != 0) return system_error("list a folder");
    if (!entry) return all;
    const std::string_view called = entry->d_name;
    if (called == "." || called == "..") continue;
    struct stat info {};
    if (::fstatat(fd, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;  // it has gone meanwhile
      return system_error("look into the folder");
    }
    if (all.size() == count_max) return fail(ErrorCode::kIo, "a folder holds more than {} names", count_max);
    all.push_back({std::string(called), S_ISDIR(info.st_mode), S_ISLNK(info.st_mode)});
  }
}

Status ContainedFolder::make_folders(std::string_view name) const {
  assert_may_block();
  if (const PathFlaw flaw = check_relative_path(name); flaw != PathFlaw::kNone)
    return fail(ErrorCode::kInvalidRequest, "a folder name {}", describe(flaw));
  Descriptor at(::fcntl(root_.number(), F_DUPFD_CLOEXEC, 0));
  const bool made = each_component(name, [&](const std::string& part) {
    if (::mkdirat(at.number(), part.c_str(), 0777) != 0 && errno != EEXIST) return false;
    at = Descriptor(::openat(at.number(), part.c_str(), kFolderFlags));
    return static_cast<bool>(at);
  });
  if (!made) return system_error("make a folder");
  return {};
}

Status ContainedFolder::rename(std::string_view from, std::string_view to) const {
  LLORCH_TRY(const Place a, place_of(from));
  LLORCH_TRY(const Place b, place_of(to));
  if (::renameat(a.folder.number(), a.name.c_str(), b.folder.number(), b.name.c_str()) != 0)
    return system_error("rename a file");
  return {};
}

Status ContainedFolder::remove(std::string_view name) const {
  LLORCH_TRY(const Place place, place_of(name));
  if (::unlinkat(place.folder.number(), place.name.c_str(), 0) != 0 && errno != ENOENT)
    return system_error("remove a file");
  return {};
}

Status ContainedFolder::write_text(std::string_view name, std::string_view text) const {
  const std::string fresh = fmt::format("{}.{}.new", name, random_hex(8));
  {
    LLORCH_TRY(const Descriptor file, open_file(fresh, O_WRONLY | O_CREAT | O_EXCL));
    if (::write(file.number(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      const auto problem = system_error("write a file");
      (void)remove(fresh);
      return problem;
    }
  }
  Status done = rename(fresh, name);
  if (!done) (void)remove(fresh);
  return done;
}

Status ContainedFolder::link(std::string_view name, std::string_view target) const {
  LLORCH_TRY(const Place place, place_of(name));
  if (const PathFlaw flaw = check_relative_path(target); flaw != PathFlaw::kNone)
    return fail(ErrorCode::kInvalidRequest, "a link's target {}", describe(flaw));
  const std::string fresh = fmt::format("{}.new", random_hex(16)), to = relative_to(name, target);
  if (::symlinkat(to.c_str(), place.folder.number(), fresh.c_str()) != 0) return system_error("make a link");
  if (::renameat(place.folder.number(), fresh.c_str(), place.folder.number(), place.name.c_str()) == 0) return {};
  const auto problem = system_error("make a link");
  ::unlinkat(place.folder.number(), fresh.c_str(), 0);
  return problem;
}

std::optional<std::int64_t> ContainedFolder::free_bytes() const {
  struct statvfs disk {};
  // fstatvfs() refuses O_PATH descriptors on old kernels; the folder itself is trusted.
  if (::statvfs(path_.c_str(), &disk) != 0) return std::nullopt;
  return static_cast<std::int64_t>(disk.f_bavail * disk.f_frsize);
}

}  // namespace llorch
