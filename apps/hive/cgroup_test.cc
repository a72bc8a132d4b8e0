#include "hive/cgroup.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>

#include "hive/process_stats.h"

namespace llorch::hive {
namespace {

std::string mount_here() {
  std::ifstream in("/proc/self/mountinfo");
  return cgroup_mount(std::string((std::istreambuf_iterator<char>(in)), {}));
}

TEST(Cgroup, limits_as_the_kernel_takes_them) {
  EXPECT_EQ(cpu_max_of("200%").value(), "200000 100000");  // H-35's own example
  EXPECT_EQ(cpu_max_of("50%").value(), "50000 100000");
  EXPECT_EQ(bytes_of("4G").value(), 4294967296);
  EXPECT_EQ(bytes_of("512M").value(), 536870912);
  EXPECT_EQ(bytes_of("1000").value(), 1000);
  for (const char* bad : {"", "%", "200", "-1%", "0%", "1e3%", "2 %"}) EXPECT_FALSE(cpu_max_of(bad)) << bad;
  for (const char* bad : {"", "G", "-1G", "0", "4GB", "9999999999999T", "1.5G"}) EXPECT_FALSE(bytes_of(bad)) << bad;
}

TEST(Cgroup, the_mount_is_found_in_every_layout) {
  EXPECT_EQ(cgroup_mount("24 1 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"),
            "/sys/fs/cgroup");
  EXPECT_EQ(cgroup_mount("30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
                         "31 30 0:27 / /sys/fs/cgroup/unified rw shared:5 master:1 - cgroup2 cgroup2 rw\n"
                         "33 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"),
            "/sys/fs/cgroup/unified");
  EXPECT_EQ(cgroup_mount("33 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), "");
  EXPECT_EQ(cgroup_mount(""), "");
}

TEST(Cgroup, a_machine_that_does_not_permit_it_says_so) {
  EXPECT_FALSE(Cgroup::make("", "x", {}));
  const std::string file = testing::TempDir() + "no-folder";
  std::ofstream(file) << "x";
  EXPECT_FALSE(Cgroup::make(file, "x", {}));
}

TEST(Cgroup, a_process_is_counted_where_the_kernel_counts_it) {
  const std::string mount = mount_here();
  auto group = Cgroup::make(mount, "test-" + std::to_string(getpid()), {});
  if (!group) GTEST_SKIP() << "not run: " << group.error().message;
  const std::string folder = mount + (*group)->name();
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  const pid_t child = fork();
  if (child == 0) {  // waits for its place, computes for 50 ms, ends
    close(go[1]);
    char c = 0;
    (void)!read(go[0], &c, 1);
    const std::clock_t start = std::clock();
    while (std::clock() - start < CLOCKS_PER_SEC / 20) {
    }
    _exit(0);
  }
  close(go[0]);
  ASSERT_TRUE((*group)->add(child));
  EXPECT_EQ((*group)->pids(), std::vector<std::int64_t>{child});
  const auto before = (*group)->cpu_us();
  ASSERT_TRUE(before);
  close(go[1]);
  waitpid(child, nullptr, 0);
  EXPECT_GE(*(*group)->cpu_us() - *before, 30'000) << "a process that only computes uses no processor time";
  // Another hive's worker of the same name gets a group of its own.
  auto other = Cgroup::make(mount, "test-" + std::to_string(getpid()), {});
  ASSERT_TRUE(other);
  EXPECT_NE((*other)->name(), (*group)->name());
  EXPECT_TRUE((*other)->pids().empty());
  group->reset();
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST(ProcessMeter, a_busy_process_is_seen_and_a_missing_one_is_not) {
  ProcessMeter meter;
  const ProcessFigures first = meter.measure(getpid(), nullptr);
  EXPECT_FALSE(first.cpu_pct) << "one look gives no rate";
  ASSERT_TRUE(first.rss_mb);
  EXPECT_GT(*first.rss_mb, 0);
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  while (std::chrono::steady_clock::now() < end) {
  }
  const ProcessFigures then = meter.measure(getpid(), nullptr);
  ASSERT_TRUE(then.cpu_pct);
  EXPECT_GT(*then.cpu_pct, 5);
  ProcessMeter none;
  (void)none.measure(1 << 29, nullptr);
  const ProcessFigures nothing = none.measure(1 << 29, nullptr);
  EXPECT_FALSE(nothing.cpu_pct || nothing.rss_mb || nothing.io_r_mb_s || nothing.io_w_mb_s)
      << "what cannot be measured is absent, not zero";
}

}  // namespace
}  // namespace llorch::hive
