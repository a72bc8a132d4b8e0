// The entries of a folder, listed without exceptions: an iterator of <filesystem> throws when it goes on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace llorch {

/// In no order. Errors: kIo.
[[nodiscard]] inline Result<std::vector<std::filesystem::directory_entry>> entries_of(const std::string& folder) {
  std::vector<std::filesystem::directory_entry> out;
  std::error_code problem;
  for (std::filesystem::directory_iterator i(folder, problem), end; !problem && i != end; i.increment(problem))
    out.push_back(*i);
  if (problem) return fail(ErrorCode::kIo, "cannot list {}: {}", folder, problem.message());
  return out;
}

}  // namespace llorch
