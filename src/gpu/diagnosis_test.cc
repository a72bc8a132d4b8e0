#include "gpu/diagnosis.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "test_nvml.h"

namespace llorch::gpu {
namespace {

namespace fs = std::filesystem;

const std::string kGpu = "gpu name=NVIDIA L4;total=24152899584;free=24000000000;major=8;minor=9\n";

/// A machine of files.
struct Around {
  explicit Around(bool hardware = true) {
    places.library = kTestNvml, places.pci = folder / "pci", places.nodes = folder / "dev";
    fs::create_directories(places.nodes);
    fs::create_directories(places.pci + "/0000:01:00.0");
    fs::create_directories(places.pci + "/0000:02:00.0");
    write(places.pci + "/0000:01:00.0/vendor", hardware ? "0x10de\n" : "0x8086\n");
    write(places.pci + "/0000:01:00.0/class", "0x030200\n");
    write(places.pci + "/0000:02:00.0/vendor", "0x10de\n");
    write(places.pci + "/0000:02:00.0/class", "0x040300\n");  // the sound of a graphics card
    worker = folder / "llorch-worker-cuda";
    write(worker, "#!/bin/sh\n");
    fs::permissions(worker, fs::perms::owner_all);
  }
  static void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  [[nodiscard]] std::vector<Finding> found() const { return diagnose(look(worker, places)); }
  ScratchDirectory folder;
  Places places;
  std::string worker;
};

/// The finding about `what`: its detail when it is `good`.
std::string detail(const std::vector<Finding>& findings, const std::string& what, bool good) {
  for (const Finding& f : findings)
    if (f.what == what) {
      EXPECT_EQ(f.good, good) << f.detail;
      return f.detail;
    }
  ADD_FAILURE() << "nothing is said of " << what;
  return "";
}

void expect_words(const std::string& text, std::initializer_list<const char*> words) {
  for (const char* word : words) EXPECT_NE(text.find(word), std::string::npos) << word << " in: " << text;
}

TEST(GpuDiagnosis, a_machine_that_is_ready) {
  const Around a;
  const NvmlSays says("driver 590.10\ncuda 13010\n" + kGpu);
  const auto found = a.found();
  ASSERT_EQ(found.size(), 3u);
  expect_words(detail(found, "GPU driver", true), {"590.10", "13.1"});
  expect_words(detail(found, "GPU cuda:0", true), {"NVIDIA L4", "8.9", "of 24.2 GB free"});
  expect_words(detail(found, "GPU worker", true), {"llorch-worker-cuda"});
}

TEST(GpuDiagnosis, no_gpu_is_no_fault) {
  Around a(false);
  a.places.library = "libnvidia-ml-of-nobody.so.1";
  ASSERT_EQ(a.found().size(), 1u);
  expect_words(detail(a.found(), "GPU driver", true), {"no NVIDIA GPU", "CPU"});
  a.places.library = kTestNvml;
  const NvmlSays says("init 9\n");
  expect_words(detail(a.found(), "GPU driver", true), {"no NVIDIA GPU", "CPU"});
}

TEST(GpuDiagnosis, nvml_is_missing) {
  Around a;
  a.places.library = "libnvidia-ml-of-nobody.so.1";
  expect_words(detail(a.found(), "GPU driver", false),
               {"an NVIDIA GPU is there", "libnvidia-ml-of-nobody.so.1", "driver 580 or newer", "container"});
}

TEST(GpuDiagnosis, drivers_that_do_not_run) {
  const Around a;
  const NvmlSays says("init 9\n");
  expect_words(detail(a.found(), "GPU driver", false), {"Driver Not Loaded", "modprobe nvidia", "580"});
  says("init 18\n");
  expect_words(detail(a.found(), "GPU driver", false), {"mismatch", "restart"});
  says("init 4\n");
  expect_words(detail(a.found(), "GPU driver", false), {"Permissions", "/dev/nvidiactl", "group"});
  says("init 999\n");
  expect_words(detail(a.found(), "GPU driver", false), {"NVML 999", "nvidia-smi"});
}

TEST(GpuDiagnosis, a_driver_that_does_not_answer) {
  const Around a;
  const std::string pipe = a.folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const auto threads = [] {
    return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator());
  };
  const auto before = threads();
  const NvmlSays says("waits " + pipe + "\n" + kGpu);
  const MachineFacts f = look(a.worker, a.places, std::chrono::milliseconds(100));
  EXPECT_TRUE(f.silent);
  const auto found = diagnose(f);
  EXPECT_EQ(found.size(), 1u) << "nothing is known of GPUs";
  expect_words(detail(found, "GPU driver", false), {"does not answer", "dmesg", "restart"});
  says(kGpu);
  std::ofstream(pipe) << "go on";
  while (threads() > before) std::this_thread::yield();  // it reads what `says` holds
}

TEST(GpuDiagnosis, gpus_that_cannot_be_used) {
  const Around a;
  const NvmlSays says("driver 550.54\ncuda 12040\n" + kGpu);
  expect_words(detail(a.found(), "GPU cuda:0", false), {"550.54", "12.4", "13.0", "driver 580 or newer"});
  says("gpu name=NVIDIA T4;total=16000000000;free=1;major=7;minor=5\n");
  expect_words(detail(a.found(), "GPU cuda:0", false), {"NVIDIA T4", "7.5", "below 8.0"});
  says("gpu name=NVIDIA L4;total=16000000000;free=1;fails=memory:15\n");
  expect_words(detail(a.found(), "GPU cuda:0", false), {"lost", "dmesg"});
  says("gpu name=a%1Bb;total=16000000000;free=1\n");
  expect_words(detail(a.found(), "GPU", false), {"cuda:0"});
}

TEST(GpuDiagnosis, device_files_that_this_user_may_not_open) {
  MachineFacts f;
  f.hardware = true, f.closed_nodes = {"/dev/nvidia0", "/dev/nvidiactl"};
  expect_words(detail(diagnose(f), "GPU driver", false), {"/dev/nvidia0, /dev/nvidiactl", "group"});
  const Around a;
  for (const char* name : {"nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-caps", "null"})
    Around::write(a.places.nodes + "/" + name, "");
  const NvmlSays says(kGpu);
  EXPECT_TRUE(look(a.worker, a.places).closed_nodes.empty());
  if (geteuid() == 0) {
    std::puts("not run: root may open every file");
    return;
  }
  for (const char* name : {"nvidia0", "nvidia-caps", "null"})
    fs::permissions(a.places.nodes + "/" + name, fs::perms::none);
  EXPECT_EQ(look(a.worker, a.places).closed_nodes, std::vector{a.places.nodes + "/nvidia0"});
}

TEST(GpuDiagnosis, the_worker_program) {
  const Around a;
  const NvmlSays says(kGpu);
  fs::permissions(a.worker, fs::perms::owner_read);
  expect_words(detail(a.found(), "GPU worker", false), {"chmod +x"});
  fs::remove(a.worker);
  expect_words(detail(a.found(), "GPU worker", false), {"is not there", "./dev cuda"});
}

}  // namespace
}  // namespace llorch::gpu
