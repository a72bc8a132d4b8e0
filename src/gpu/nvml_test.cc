// Against a shared object that answers as NVML does (tests/nvml/nvml.cc): what it says is believed where it can be.
#include "gpu/nvml.h"

#include <gtest/gtest.h>

#include "test_nvml.h"

namespace llorch::gpu {
namespace {

const std::string kH200 =
    "gpu name=NVIDIA H200;uuid=GPU-1;bus=00000000:41:00.0;total=150754820096;free=140000000000;util=37;temp=61;"
    "major=9;minor=0;process=4711:5000000000;process=4712:18446744073709551615\n";

std::unique_ptr<Nvml> opened() {
  auto nvml = Nvml::open(kTestNvml);
  EXPECT_TRUE(nvml) << nvml.error().message;
  return *std::move(nvml);
}

TEST(Nvml, what_a_gpu_is_and_does) {
  const NvmlSays says("driver 580.65.06\ncuda 13000\n" + kH200);
  const Reading r = opened()->read();
  EXPECT_EQ(r.status, NvmlStatus::kSuccess) << r.why;
  EXPECT_EQ(r.driver, "580.65.06");
  EXPECT_EQ(r.cuda_version, 13000);
  ASSERT_EQ(r.gpus.size(), 1u);
  const Gpu& g = r.gpus[0];
  EXPECT_EQ(g.index, 0);
  EXPECT_EQ(g.name, "NVIDIA H200");
  EXPECT_EQ(g.uuid, "GPU-1");
  EXPECT_EQ(g.pci_bus_id, "00000000:41:00.0");
  EXPECT_EQ(g.capability, 90);
  EXPECT_EQ(g.memory_total, 150754820096);
  EXPECT_EQ(g.memory_free, 140000000000);
  EXPECT_EQ(g.util_pct, 37);
  EXPECT_EQ(g.temp_c, 61);
  EXPECT_EQ(g.process_bytes, (std::map<std::int64_t, std::int64_t>{{4711, 5000000000}}))
      << "what is not known is absent, not a number";
  EXPECT_EQ(problem_of(g, r.driver, r.cuda_version), "");
  EXPECT_TRUE(r.unreadable.empty());
}

TEST(Nvml, a_library_that_is_not_there_or_is_another) {
  const auto missing = Nvml::open("libnvidia-ml-of-nobody.so.1");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kDeviceNotFound);
  EXPECT_NE(missing.error().message.find("libnvidia-ml-of-nobody.so.1"), std::string::npos) << missing.error().message;
  const auto other = Nvml::open("libc.so.6");
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message.find("lacks nvmlInit_v2"), std::string::npos) << other.error().message;
}

TEST(Nvml, a_driver_that_is_not_loaded_is_asked_again) {
  const NvmlSays says("init 9\n" + kH200);
  const auto nvml = opened();
  const Reading r = nvml->read();
  EXPECT_EQ(r.status, NvmlStatus::kDriverNotLoaded);
  EXPECT_NE(r.why.find("Driver Not Loaded (NVML 9)"), std::string::npos) << r.why;
  EXPECT_TRUE(r.gpus.empty());
  says(kH200);
  EXPECT_EQ(nvml->read().gpus.size(), 1u);
  says("fails count:999\n" + kH200);
  EXPECT_EQ(static_cast<int>(nvml->read().status), 999);
  says(kH200);
  EXPECT_EQ(nvml->read().gpus.size(), 1u);
}

TEST(Nvml, a_gpu_that_is_lost_stays_in_the_list_with_what_was_known_of_it) {
  for (const char* fails : {"handle:15", "memory:15", "util:16", "processes:15"}) {
    const NvmlSays says(kH200 + kH200);
    const auto nvml = opened();
    ASSERT_EQ(nvml->read().gpus.size(), 2u);
    std::string lost = kH200;
    lost.insert(lost.size() - 1, std::string(";fails=") + fails);
    says(kH200 + lost);
    const Reading r = nvml->read();
    ASSERT_EQ(r.gpus.size(), 2u) << fails;
    EXPECT_FALSE(r.gpus[0].lost) << fails;
    const Gpu& g = r.gpus[1];
    EXPECT_TRUE(g.lost) << fails;
    EXPECT_EQ(g.index, 1);
    EXPECT_EQ(g.name, "NVIDIA H200");
    EXPECT_EQ(g.memory_total, 150754820096);
    EXPECT_FALSE(g.memory_free || g.util_pct || g.temp_c) << "of before";
    EXPECT_NE(problem_of(g, r.driver, r.cuda_version).find("lost"), std::string::npos);
    says(kH200 + kH200);
    EXPECT_FALSE(nvml->read().gpus[1].lost) << "it was reset";
  }
  const NvmlSays says("gpu name=x;total=1;fails=handle:15\n");
  ASSERT_EQ(opened()->read().gpus.size(), 1u) << "lost before it was ever seen";
}

TEST(Nvml, what_cannot_be_is_not_believed) {
  const std::string whole(256, 'n'), turns = "a%E2%80%AEb", escape = "a%1B[31mb", broken = "a%FFb", lines = "a%0Ab";
  for (const std::string& name : {whole, turns, escape, broken, lines, std::string()}) {
    const NvmlSays says("gpu name=" + name + ";total=1000000;free=1\n" + kH200);
    const Reading r = opened()->read();
    ASSERT_EQ(r.gpus.size(), 1u) << name;
    EXPECT_EQ(r.gpus[0].index, 1) << "the others keep their numbers";
    ASSERT_EQ(r.unreadable.size(), 1u);
    EXPECT_NE(r.unreadable[0].find("cuda:0"), std::string::npos);
  }
  const NvmlSays says(
      "count 4000000000\n"
      "gpu name=a;total=18446744073709551615;free=1\n"
      "gpu name=b;total=1048576;free=18446744073709551615;util=101;temp=4000000000;major=4000;minor=77\n"
      "gpu name=c;total=1;free=1;fails=memory:999\n");
  const Reading r = opened()->read();
  ASSERT_EQ(r.gpus.size(), 1u);
  EXPECT_EQ(r.gpus[0].name, "b");
  EXPECT_EQ(r.gpus[0].memory_free, 1048576) << "free is no more than all";
  EXPECT_FALSE(r.gpus[0].util_pct || r.gpus[0].temp_c || r.gpus[0].capability);
  EXPECT_NE(r.unreadable.front().find("4000000000 GPUs"), std::string::npos) << r.unreadable.front();
  EXPECT_EQ(r.unreadable.size(), 1 + 2 + (kGpusMax - 3)) << "each that was counted and is not there";
}

TEST(Nvml, many_processes) {
  std::string gpu = kH200;
  for (int pid = 10'000; pid < 10'100; ++pid)
    gpu.insert(gpu.size() - 1, ";process=" + std::to_string(pid) + ":" + std::to_string(pid));
  const NvmlSays says(gpu);
  const Reading r = opened()->read();
  ASSERT_EQ(r.gpus.size(), 1u);
  EXPECT_EQ(r.gpus[0].process_bytes.size(), 101u);
  EXPECT_EQ(r.gpus[0].process_bytes.at(10'099), 10'099);
}

TEST(Nvml, why_nothing_can_run_on_a_gpu) {
  Gpu g;
  g.capability = 75;
  EXPECT_NE(problem_of(g, "580", 13000).find("compute capability 7.5 is below 8.0"), std::string::npos);
  g.capability = 80;
  EXPECT_EQ(problem_of(g, "580", 13000), "");
  EXPECT_EQ(problem_of(g, "", 0), "") << "nothing is known against it";
  const std::string old = problem_of(g, "550.54", 12040);
  EXPECT_NE(old.find("550.54"), std::string::npos) << old;
  EXPECT_NE(old.find("12.4"), std::string::npos) << old;
  EXPECT_NE(old.find("driver 580 or newer"), std::string::npos) << old;
  g.lost = true;
  EXPECT_NE(problem_of(g, "580", 13000).find("lost"), std::string::npos);
}

}  // namespace
}  // namespace llorch::gpu
