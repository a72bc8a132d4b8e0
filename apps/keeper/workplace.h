// A folder for files of one run. Errors: kIo.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/descriptor.h"
#include "base/result.h"

namespace llorch::keeper {

/// A folder for the engines' files; removed at the end, unless it is kept.
class Workplace {
 public:
  static Result<Workplace> make(const std::string& keep) {
    Workplace w;
    std::error_code problem;
    if (!keep.empty()) {
      std::filesystem::create_directories(keep, problem);
      if (problem) return fail(ErrorCode::kIo, "cannot make {}: {}", keep, problem.message());
      w.path_ = keep;
      return w;
    }
    auto temporary = std::filesystem::temp_directory_path(problem);
    if (problem) temporary = "/tmp";
    remove_abandoned(temporary);
    std::string pattern = (temporary / (std::string(kPrefix) + "XXXXXX")).string();
    if (!mkdtemp(pattern.data())) return fail(ErrorCode::kIo, "cannot make a folder in {}", temporary.string());
    w.path_ = pattern, w.ours_ = true;
    w.lock_ = locked(pattern);
    return w;
  }
  Workplace(Workplace&& other) noexcept
      : path_(std::exchange(other.path_, "")),
        ours_(std::exchange(other.ours_, false)),
        lock_(std::move(other.lock_)) {}
  Workplace& operator=(Workplace&&) = delete;
  ~Workplace() {
    std::error_code problem;
    if (ours_) std::filesystem::remove_all(path_, problem);
  }
  [[nodiscard]] std::string folder(const std::string& name) const {
    std::error_code problem;
    std::filesystem::remove_all(path_ + "/" + name, problem);
    std::filesystem::create_directories(path_ + "/" + name, problem);
    return path_ + "/" + name;
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Workplace() = default;
  static constexpr std::string_view kPrefix = "llorch-parity-run-";

  /// Whoever uses a folder holds its lock; none: somebody else does.
  static Descriptor locked(const std::string& folder) {
    Descriptor d(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    return d && flock(d.number(), LOCK_EX | LOCK_NB) == 0 ? std::move(d) : Descriptor();
  }
  /// Folders of runs that were killed. One that is new may be about to be locked.
  static void remove_abandoned(const std::filesystem::path& temporary) {
    constexpr std::time_t kNewSeconds = 60;
    std::error_code problem;
    std::vector<std::string> old;
    for (std::filesystem::directory_iterator i(temporary, problem), end; !problem && i != end; i.increment(problem)) {
      struct stat info {};
      const std::string path = i->path().string();
      if (i->path().filename().string().starts_with(kPrefix) && lstat(path.c_str(), &info) == 0 &&
          info.st_uid == geteuid() && info.st_mtim.tv_sec <= std::time(nullptr) - kNewSeconds)
        old.push_back(path);
    }
    for (const std::string& path : old)
      if (locked(path)) std::filesystem::remove_all(path, problem);
  }

  std::string path_;
  bool ours_ = false;
  Descriptor lock_;
};

}  // namespace llorch::keeper
