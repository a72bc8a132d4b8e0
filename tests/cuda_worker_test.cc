// The CUDA worker's command line: the program for GPUs, or the one for the emulated device.
#include <gtest/gtest.h>

#include <filesystem>

#include "format/json.h"
#include "process.h"
#include "test_data.h"

namespace llorch {
namespace {

const std::string kEmulated = LLORCH_BIN_DIR "/llorch-worker-cuda-emulated";
const bool kIsEmulated = std::filesystem::exists(kEmulated);
const std::string kWorker = kIsEmulated ? kEmulated : LLORCH_BIN_DIR "/llorch-worker-cuda";
const std::string kKind = kIsEmulated ? "cuda-emulated" : "cuda";

ProcessResult run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kWorker);
  return run_process(arguments);
}

json::object parsed(const std::string& text) {
  const auto v = json::parse(text, "output");
  EXPECT_TRUE(v && v->is_object()) << text;
  return v && v->is_object() ? v->get_object() : json::object{};
}

/// Without a GPU the program can say what it is, and no more.
#define LLORCH_NEED_DEVICE()                                              \
  if (!kIsEmulated) {                                                     \
    std::puts("not run: for the emulated device, which is always there"); \
    return;                                                               \
  }

TEST(CudaWorker, says_what_it_is) {
  const json::object about = parsed(run({"--build-info"}).out);
  EXPECT_EQ(json::find_text(about, "backend"), kKind);
  EXPECT_EQ(json::find_text(about, "isa"), kKind) << "not the CPU's";
  const std::string help = run({"serve", "--help"}).out;
  EXPECT_EQ(help.find("avx2"), std::string::npos);
  const std::size_t kinds = help.find("--backend");
  const std::string of_backend = help.substr(kinds, help.find("\n  -", kinds) - kinds);
  EXPECT_EQ(of_backend.find("cuda,"), of_backend.rfind("cuda,")) << of_backend;
}

TEST(CudaWorker, roofline_is_the_device_s) {
  LLORCH_NEED_DEVICE();
  const json::object roof = parsed(run({"roofline", "--json"}).out);
  EXPECT_EQ(json::find_text(roof, "isa"), kKind);
  for (const char* figure : {"read_gb_s", "copy_gb_s", "int8_gops", "bf16_gflops", "fp32_gflops"})
    EXPECT_GT(json::find_number(roof, figure).value_or(0), 0) << figure;
  EXPECT_NE(run({"roofline"}).out.find("multiprocessors"), std::string::npos);
  EXPECT_EQ(run({"roofline", "--isa", "avx2"}).exit_code, 2);
  const auto absent = run({"roofline", "--device", "1"});
  EXPECT_NE(absent.exit_code, 0);
  EXPECT_NE(absent.err.find("cuda:1"), std::string::npos) << absent.err;
}

/// A model without a file, next to what the device can do.
TEST(CudaWorker, bench_tells_shares_of_the_device_s_roofline) {
  LLORCH_NEED_DEVICE();
  const auto r = run({"bench", "-m", "random:tiny-llama:Q4_0", "-p", "16", "-n", "2", "-r", "1", "--json"});
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const json::object report = parsed(r.out);
  for (const json::value& result : *json::find_array(report, "results")) {
    EXPECT_GT(json::find_number(result.get_object(), "roofline_fraction").value_or(0), 0);
    const double host = json::find_number(result.get_object(), "host_share").value_or(-1);
    EXPECT_TRUE(host > 0 && host < 1) << host;
  }
  EXPECT_EQ(json::find_array(report, "rooflines")->size(), 1u);
  const auto bytes = [&](const char* name) { return json::find_number(report, name).value_or(0); };
  EXPECT_GT(bytes("device_bytes_loaded"), 0);
  EXPECT_NEAR(bytes("device_bytes_predicted"), bytes("device_bytes_loaded"), 4096);  // the device's own, without models
  EXPECT_GT(bytes("device_bytes"), bytes("device_bytes_loaded")) << "pages come on top";
  EXPECT_EQ(run({"bench", "-m", "builtin:haiku", "--profile"}).exit_code, 2) << "launches are no operations";
}

TEST(CudaWorker, flags_of_the_cpu_are_refused_or_said_to_have_no_effect) {
  LLORCH_NEED_DEVICE();
  const auto isa = run({"generate", "-m", "builtin:haiku", "-p", "a", "-n", "1", "--isa", "avx2"});
  EXPECT_EQ(isa.exit_code, 2);
  EXPECT_NE(isa.err.find("--isa avx2"), std::string::npos) << isa.err;
  ScratchDirectory d;
  const auto packed = run({"generate", "-m", "builtin:haiku", "-p", "a", "-n", "1", "--packed-cache", d / "packed"});
  EXPECT_EQ(packed.exit_code, 0) << packed.err;
  EXPECT_NE(packed.err.find("--packed-cache has no effect"), std::string::npos) << packed.err;
  EXPECT_FALSE(std::filesystem::exists(d / "packed"));
}

TEST(CudaWorker, commands_take_a_device) {
  LLORCH_NEED_DEVICE();
  for (const char* command : {"generate", "bench"})
    for (const char* device : {"7", "-1"}) {
      const auto r = run({command, "-m", "builtin:haiku", "--device", device});
      EXPECT_NE(r.exit_code, 0) << command;
      EXPECT_NE(r.err.find("cuda:" + std::string(device)), std::string::npos) << command << r.err;
    }
  EXPECT_EQ(run({"generate", "-m", "builtin:haiku", "-p", "a", "-n", "1", "--device", "0"}).exit_code, 0);
}

TEST(CudaWorker, is_compared_with_the_reference_device_of_the_cpu) {
  LLORCH_NEED_DEVICE();
  const auto r =
      run({"parity", "-m", "builtin:haiku", "--against", "builtin:haiku", "--tokens", "1,2,3,4,5", "--json"});
  EXPECT_EQ(r.exit_code, 0) << r.err;
  const json::object report = parsed(r.out);
  EXPECT_EQ(json::find_text(report, "isa"), "cuda-emulated");
  EXPECT_EQ(json::find_text(report, "verdict"), "parity");
  const double relative = *json::find_number(*json::find_object(report, "logits"), "relative");
  EXPECT_GT(relative, 0) << "it was compared with itself";
  EXPECT_LT(relative, 1e-2);
}

}  // namespace
}  // namespace llorch
