// A folder for files of one run. Errors: kIo.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <utility>

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
    const auto temporary = std::filesystem::temp_directory_path(problem);
    std::string pattern = ((problem ? std::filesystem::path("/tmp") : temporary) / "llorch-parity-XXXXXX").string();
    if (!mkdtemp(pattern.data())) return fail(ErrorCode::kIo, "cannot make a folder in {}", temporary.string());
    w.path_ = pattern, w.ours_ = true;
    return w;
  }
  Workplace(Workplace&& other) noexcept
      : path_(std::exchange(other.path_, "")), ours_(std::exchange(other.ours_, false)) {}
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
  std::string path_;
  bool ours_ = false;
};

}  // namespace llorch::keeper
