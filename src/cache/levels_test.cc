#include "cache/levels.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/folder.h"
#include "base/random.h"
#include "test_data.h"

namespace llorch {
namespace {

namespace fs = std::filesystem;

class Levels : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "llorch-levels-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  static ContentKey key(int i, int group = 0) {
    ContentKey k{group, {}};
    for (std::size_t b = 0; b < 4; ++b) k.hash[b] = static_cast<std::uint8_t>(i >> (8 * b));
    return k;
  }
  /// Of key i, always the same.
  static Content content(int i, std::size_t bytes = 5000) {
    Content c(bytes);
    for (std::size_t b = 0; b < bytes; ++b)
      c[b] = static_cast<std::byte>(uniform(9, static_cast<std::uint64_t>(i), b) * 256);
    return c;
  }
  DiskLevel::Options disk(std::int64_t most = 1 << 20, std::string owner = "one") const {
    return {(folder_ / "cache").string(), "a model/with: signs", std::move(owner), most};
  }
  std::unique_ptr<CacheLevels> open(std::int64_t memory, bool on_disk) const {
    CacheLevels::Options o;
    o.memory_bytes = memory;
    if (on_disk) o.disk = disk();
    return CacheLevels::open(std::move(o)).value();
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> out;
    for (const auto& entry : fs::recursive_directory_iterator(folder_))
      if (entry.is_regular_file()) out.push_back(entry.path());
    std::ranges::sort(out);
    return out;
  }
  static DiskLevel::Found read(DiskLevel& level, const ContentKey& k, Content& to) { return level.get(k, to); }

  fs::path folder_;
};

TEST_F(Levels, disk_gives_what_another_process_has_put) {
  ASSERT_TRUE(DiskLevel::open(disk()).value()->put(key(1), content(1)));
  const auto level = DiskLevel::open(disk()).value();
  Content got(5000);
  EXPECT_TRUE(level->has(key(1)));
  EXPECT_EQ(level->get(key(1), got), DiskLevel::Found::kYes);
  EXPECT_EQ(got, content(1));
  for (const ContentKey& other : {key(2), key(1, 1), key(1, kCheckpointGroup)}) {
    EXPECT_FALSE(level->has(other));
    EXPECT_EQ(level->get(other, got), DiskLevel::Found::kNo);
  }
  const auto stranger = DiskLevel::open(disk(1 << 20, "two")).value();
  EXPECT_FALSE(stranger->has(key(1)));
}

TEST_F(Levels, files_are_their_owners_alone) {
  const ::mode_t before = ::umask(0);
  ASSERT_TRUE(DiskLevel::open(disk()).value()->put(key(1), content(1)));
  ::umask(before);
  for (const auto& entry : fs::recursive_directory_iterator(folder_))
    EXPECT_EQ(entry.status().permissions() & (fs::perms::group_all | fs::perms::others_all), fs::perms::none)
        << entry.path();
}

TEST_F(Levels, what_is_wrong_is_found_and_removed) {
  const auto level = DiskLevel::open(disk()).value();
  const std::size_t size = 56 + 5000;
  struct Case {
    const char* what;
    std::function<void(const fs::path&)> harm;
  };
  const auto flip = [](std::size_t at) {
    return [at](const fs::path& p) {
      std::fstream f(p, std::ios::in | std::ios::out | std::ios::binary);
      f.seekg(static_cast<std::streamoff>(at));
      const char c = static_cast<char>(f.get() ^ 1);
      f.seekp(static_cast<std::streamoff>(at));
      f.put(c);
    };
  };
  const std::vector<Case> cases{{"magic", flip(3)},
                                {"bytes", flip(16)},
                                {"hash", flip(40)},
                                {"first byte", flip(56)},
                                {"last byte", flip(size - 1)},
                                {"cut", [&](const fs::path& p) { fs::resize_file(p, size - 1); }},
                                {"only a head", [](const fs::path& p) { fs::resize_file(p, 56); }},
                                {"empty", [](const fs::path& p) { fs::resize_file(p, 0); }},
                                {"longer", [&](const fs::path& p) { fs::resize_file(p, size + 1); }},
                                {"another's", [&](const fs::path& p) {
                                   ASSERT_TRUE(level->put(key(2), content(2)));
                                   for (const auto& f : files())
                                     if (f != p) fs::rename(f, p);
                                 }}};
  for (const Case& c : cases) {
    ASSERT_TRUE(level->put(key(1), content(1)));
    ASSERT_EQ(fs::file_size(files().at(0)), size);
    c.harm(files().at(0));
    Content got(5000);
    EXPECT_EQ(level->get(key(1), got), DiskLevel::Found::kDamaged) << c.what;
    EXPECT_FALSE(level->has(key(1))) << c.what;
    EXPECT_TRUE(files().empty()) << c.what;
  }
  Content shorter(4999);
  ASSERT_TRUE(level->put(key(1), content(1)));
  EXPECT_EQ(level->get(key(1), shorter), DiskLevel::Found::kDamaged);
}

TEST_F(Levels, a_folder_that_others_can_open_is_refused) {
  ASSERT_TRUE(DiskLevel::open(disk()));
  fs::path own;
  for (const auto& f : fs::directory_iterator(folder_ / "cache")) own = f.path();
  fs::permissions(own, fs::perms::all);
  EXPECT_NE(DiskLevel::open(disk()).error().message.find(own.filename().string()), std::string::npos);
  fs::permissions(own, fs::perms::owner_all);
  EXPECT_TRUE(DiskLevel::open(disk()));
  fs::rename(own, folder_ / "elsewhere");
  fs::create_directory_symlink(folder_ / "elsewhere", own);
  EXPECT_FALSE(DiskLevel::open(disk()));
}

/// Each has counted what was there when it started; what the others write since then counts, too.
TEST_F(Levels, processes_that_share_a_folder_keep_below_its_limit_together) {
  constexpr std::size_t kBytes = 4 << 20;
  const std::int64_t most = 128 << 20;
  std::vector<std::unique_ptr<DiskLevel>> levels;
  for (int i = 0; i < 4; ++i) levels.push_back(DiskLevel::open(disk(most)).value());
  const Content some(kBytes);
  for (int i = 0; i < 120; ++i) ASSERT_TRUE(levels[static_cast<std::size_t>(i % 4)]->put(key(i), some));
  std::int64_t total = 0;
  for (const auto& f : files()) total += static_cast<std::int64_t>(fs::file_size(f));
  EXPECT_LE(total, most + std::int64_t{4} * (64 << 20));
  EXPECT_LT(total, 400 << 20) << "nobody has counted";
  for (const auto& level : levels)
    for (int i = 200; i < 220; ++i) ASSERT_TRUE(level->put(key(i), some));
  total = 0;
  for (const auto& f : files()) total += static_cast<std::int64_t>(fs::file_size(f));
  EXPECT_LE(total, most + (64 << 20));
}

TEST_F(Levels, a_content_above_the_limit_is_an_error_and_removes_nothing) {
  const auto level = DiskLevel::open(disk(20'000)).value();
  ASSERT_TRUE(level->put(key(1), content(1)));
  EXPECT_FALSE(level->put(key(2), content(2, 30'000)));
  EXPECT_TRUE(level->has(key(1)));
}

TEST_F(Levels, a_file_in_place_of_the_folder_is_an_error) {
  std::ofstream(folder_ / "cache") << "x";
  const auto level = DiskLevel::open(disk());
  ASSERT_FALSE(level);
  EXPECT_NE(level.error().message.find("cache"), std::string::npos) << level.error().message;
}

TEST_F(Levels, disk_keeps_below_its_limit_and_forgets_the_longest_unused) {
  constexpr std::int64_t kEach = 56 + 5000, kMost = 20 * kEach;
  const auto level = DiskLevel::open(disk(kMost)).value();
  for (const char* foreign : {"notes.txt", "cache/keep.me"}) std::ofstream(folder_ / foreign) << std::string(9000, 'x');
  const auto age = [&](int i, int hours) {
    for (const auto& f : files())
      if (f.filename().string().starts_with(fmt::format("{:02x}000000", i)))
        fs::last_write_time(f, fs::file_time_type::clock::now() - std::chrono::hours(hours));
  };
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(level->put(key(i), content(i)));
    age(i, 100 - i);
  }
  Content got(5000);
  EXPECT_EQ(level->get(key(0), got), DiskLevel::Found::kYes);  // used: it is the youngest now
  ASSERT_TRUE(level->put(key(20), content(20)));
  std::int64_t total = 0;
  for (const auto& f : files())
    if (f.parent_path().filename() != "cache" && f.parent_path() != folder_)
      total += static_cast<std::int64_t>(fs::file_size(f));
  EXPECT_LE(total, kMost);
  EXPECT_EQ(level->bytes(), total);
  EXPECT_TRUE(level->has(key(0)));
  EXPECT_FALSE(level->has(key(1)));
  EXPECT_TRUE(level->has(key(19)));
  EXPECT_TRUE(level->has(key(20)));
  EXPECT_TRUE(fs::exists(folder_ / "notes.txt") && fs::exists(folder_ / "cache/keep.me"));
}

/// A process that writes is killed at any moment: what is there afterwards is whole, and it is what was put there.
TEST_F(Levels, killed_writers_leave_nothing_that_is_wrong) {
  constexpr int kKeys = 40, kKills = kSanitized ? 100 : 500;
  constexpr std::size_t kBytes = 200'000;
  std::vector<Content> contents;
  for (int i = 0; i < kKeys; ++i) contents.push_back(content(i, kBytes));
  int whole = 0, unfinished = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    const ::pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {  // until its alarm ends it
      ::itimerval alarm{};
      alarm.it_value.tv_usec = 1 + static_cast<::suseconds_t>(uniform(4, 5, static_cast<std::uint64_t>(kill)) * 6000);
      ::setitimer(ITIMER_REAL, &alarm, nullptr);
      const auto level = DiskLevel::open(disk(20 * static_cast<std::int64_t>(kBytes)));
      for (int i = kill; level; ++i) (void)(*level)->put(key(i % kKeys), contents[static_cast<std::size_t>(i % kKeys)]);
      ::_exit(1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself";
    if (kill % 10 != 9) continue;
    const auto level = DiskLevel::open(disk(20 * static_cast<std::int64_t>(kBytes))).value();
    for (int i = 0; i < kKeys; ++i) {
      Content got(kBytes);
      const auto found = level->get(key(i), got);
      ASSERT_NE(found, DiskLevel::Found::kDamaged) << "after kill " << kill;
      if (found == DiskLevel::Found::kNo) continue;
      ASSERT_EQ(got, contents[static_cast<std::size_t>(i)]);
      ++whole;
    }
  }
  for (const auto& f : files()) unfinished += f.extension() == ".new";
  EXPECT_GT(whole, kKills / 5);
  EXPECT_GT(unfinished, 0) << "no writer was killed while it wrote: this test has shown nothing";
  // What nobody finishes goes, in time.
  for (const auto& f : files()) fs::last_write_time(f, fs::file_time_type::clock::now() - std::chrono::hours(2));
  ASSERT_TRUE(DiskLevel::open(disk()));
  for (const auto& f : files()) EXPECT_NE(f.extension(), ".new");
}

TEST_F(Levels, memory_keeps_what_was_used_last) {
  const auto levels = open(std::int64_t{3} * 5000, false);
  for (int i = 0; i < 3; ++i) levels->leave(key(i), content(i));
  Content got(5000);
  EXPECT_TRUE(levels->get(key(0), got));
  levels->leave(key(3), content(3));
  EXPECT_TRUE(levels->has(key(0)));
  EXPECT_FALSE(levels->has(key(1)));
  EXPECT_TRUE(levels->get(key(3), got));
  EXPECT_EQ(got, content(3));
  EXPECT_LE(levels->counts().memory_bytes, 3 * 5000);
  levels->leave(key(4), content(4, 20'000));  // larger than all of it
  EXPECT_FALSE(levels->has(key(4)));
  EXPECT_TRUE(levels->has(key(3)));
  EXPECT_EQ(levels->counts().skipped, 1);
}

TEST_F(Levels, what_is_stored_is_there_before_it_is_on_disk_and_after) {
  {
    const auto levels = open(0, true);
    EXPECT_FALSE(levels->wants_what_leaves(key(500)) && !levels->wants_to_store(key(500)));
    for (int i = 0; i < 30; ++i) levels->store(key(i), content(i));
    Content got(5000);
    for (int i = 0; i < 30; ++i) {
      EXPECT_TRUE(levels->get(key(i), got));
      EXPECT_EQ(got, content(i));
    }
    levels->flush();
    EXPECT_FALSE(levels->wants_to_store(key(3)));
    EXPECT_EQ(levels->counts().written, 30);
  }
  const auto levels = open(0, true);
  Content got(5000);
  EXPECT_TRUE(levels->get(key(7), got));
  EXPECT_EQ(got, content(7));
  EXPECT_EQ(levels->counts().disk_hits, 1);
}

TEST_F(Levels, a_folder_that_goes_costs_what_it_held_and_no_more) {
  const auto levels = open(0, true);
  levels->store(key(1), content(1));
  levels->flush();
  fs::remove_all(folder_ / "cache");
  levels->store(key(2), content(2));
  levels->flush();
  Content got(5000);
  EXPECT_FALSE(levels->get(key(1), got));
  EXPECT_FALSE(levels->has(key(1)));
  EXPECT_TRUE(levels->get(key(2), got));
  fs::remove_all(folder_ / "cache");
  std::ofstream(folder_ / "cache") << "x";
  levels->store(key(3), content(3));
  levels->flush();
  EXPECT_FALSE(levels->get(key(3), got));
  EXPECT_EQ(levels->counts().skipped, 1);
  EXPECT_FALSE(levels->wants_to_store(key(4))) << "a disk that has just failed is asked again";
}

}  // namespace
}  // namespace llorch
