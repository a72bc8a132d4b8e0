// What the library of tests/nvml/ answers in NVML's place.
#pragma once

#include <cstdlib>
#include <fstream>
#include <string>

#include "test_data.h"

namespace llorch {

/// While it lives, kTestNvml says what `says` holds (tests/nvml/nvml.cc).
class NvmlSays {
 public:
  explicit NvmlSays(const std::string& says) {
    setenv("LLORCH_TEST_NVML", (folder_ / "nvml").c_str(), 1);
    (*this)(says);
  }
  ~NvmlSays() { unsetenv("LLORCH_TEST_NVML"); }
  void operator()(const std::string& says) const { std::ofstream(folder_ / "nvml") << says; }

 private:
  ScratchDirectory folder_;
};

inline constexpr const char* kTestNvml = LLORCH_BIN_DIR "/../nvml/libnvidia-ml.so.1";

}  // namespace llorch
