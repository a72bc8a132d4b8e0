// The runtime, on a GPU or on the emulated device (T-33).
#include "cuda/runtime.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

namespace llorch::cuda {
namespace {

TEST(Runtime, a_machine_without_a_driver_says_so) {
  const auto count = device_count();
  if (count) GTEST_SKIP() << "not run: there is a device";
  EXPECT_EQ(count.error().code, ErrorCode::kDeviceNotFound);
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (!driver) {
    EXPECT_NE(count.error().message.find("driver"), std::string::npos) << count.error().message;
  }
  EXPECT_FALSE(select_device(0));
}

}  // namespace
}  // namespace llorch::cuda
