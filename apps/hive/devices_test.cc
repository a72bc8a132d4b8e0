#include "hive/devices.h"

#include <gtest/gtest.h>

namespace llorch::hive {
namespace {

std::string ids(const DeviceReport& r) {
  std::string out;
  for (const auto& d : r.devices) out += d.id + " ";
  return out;
}

TEST(Devices, gpus_that_CUDA_VISIBLE_DEVICES_hides_are_left_out) {
  gpu::Reading reading;
  for (const int i : {0, 1, 2}) {
    gpu::Gpu& g = reading.gpus.emplace_back();
    g.index = i, g.name = "x", g.uuid = "GPU-" + std::to_string(i) + "f00", g.memory_total = 10, g.memory_free = 5;
  }
  const auto seen = [&](std::optional<std::string> visible) {
    DeviceReport r;
    r.visible = std::move(visible);
    add_gpus(reading, r);
    return ids(r);
  };
  EXPECT_EQ(seen(std::nullopt), "cuda:0 cuda:1 cuda:2 ");
  EXPECT_EQ(seen("2,0"), "cuda:0 cuda:2 ") << "their numbers stay";
  EXPECT_EQ(seen("GPU-1f"), "cuda:1 ");
  EXPECT_EQ(seen("1,GPU-2f00"), "cuda:1 cuda:2 ");
  for (const char* none : {"", "-1", "NoDevFiles", "GPU", "10", "MIG-1f00"}) EXPECT_EQ(seen(none), "") << none;
  DeviceReport r;
  r.visible = "1";
  read_gpu_lines("0, A, 100, 50, 9.0, b, 1, 1\n1, B, 100, 50, 9.0, b, 1, 1\n99999999999, C, 1, 1, 9.0, b, 1, 1\n", r);
  EXPECT_EQ(ids(r), "cuda:1 ");
}

TEST(Devices, nvidia_smi_s_words_tell_the_uuid) {
  EXPECT_TRUE(std::string_view(kGpuColumns).ends_with("temperature.gpu,uuid"));
  DeviceReport r;
  r.visible = "GPU-2b";
  read_gpu_lines(
      "0, A, 100, 50, 9.0, b, 1, 1, GPU-1a00\n1, B, 100, 50, 9.0, b, 1, 1, GPU-2b00\n2, C, 100, 50, 9.0, b, 1, 1\n"
      "3, D, 100, 50, 9.0, b, 1, 1, GPU-2b00, x\n",
      r);
  EXPECT_EQ(ids(r), "cuda:1 ");
  ASSERT_EQ(r.unreadable.size(), 1u);
  EXPECT_TRUE(r.unreadable[0].starts_with("3, D")) << "a cell too many";
}

TEST(Devices, nvidia_smi_s_words_tell_the_capability) {
  DeviceReport r;
  read_gpu_lines("0, T4, 16000, 50, 7.5, b, 1, 1\n1, H200, 143771, 5, 9.0, b, 1, 1\n2, ?, 1, 1, [N/A], b, 1, 1\n", r);
  ASSERT_EQ(r.devices.size(), 3u);
  EXPECT_NE(r.devices[0].problem.find("7.5 is below 8.0"), std::string::npos);
  EXPECT_EQ(r.devices[1].problem, "");
  EXPECT_EQ(r.devices[2].problem, "") << "nothing is known against it";
  add_problem("there is no worker", r);
  EXPECT_EQ(r.devices[1].problem, "there is no worker");
  EXPECT_NE(r.devices[0].problem, "there is no worker");
}

}  // namespace
}  // namespace llorch::hive
