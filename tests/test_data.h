// Test data that is not ours: read in place from LLORCH_TEST_DATA (default ../shared beside the source tree). A test
// that finds none says that it was not run.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/mapped_file.h"

namespace llorch {

inline std::string test_data_path(const std::string& relative) {
  const char* set = std::getenv("LLORCH_TEST_DATA");
  return (set ? std::string(set) : std::string(LLORCH_SOURCE_DIR "/../shared")) + "/" + relative;
}

/// Sanitized builds are some ten times slower: suites that only repeat the same code paths run a part there, all in
/// the optimised build.
#ifdef LLORCH_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

/// A directory of this test's own, removed at the end.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "llorch-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// True where what is missing must fail (T-06).
inline bool require_real() {
  for (const char* name : {"LLORCH_REQUIRE_REAL", "REQUIRE_REAL_LLAMA"})
    if (const char* set = std::getenv(name); set && std::string(set) == "1") return true;
  return false;
}

}  // namespace llorch

/// Declares `variable` as the path of a test data file; where it is missing, prints that the test was not run and
/// returns, or fails with LLORCH_REQUIRE_REAL=1.
#define LLORCH_NEED_TEST_DATA(variable, relative)                                                            \
  const std::string variable = ::llorch::test_data_path(relative);                                           \
  if (!std::filesystem::exists(variable) && ::llorch::require_real()) FAIL() << variable << " is not there"; \
  if (!std::filesystem::exists(variable)) GTEST_SKIP() << "not run: " << variable << " is not there"
