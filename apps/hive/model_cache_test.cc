#include "hive/model_cache.h"

#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace llorch::hive {
namespace {

namespace fs = std::filesystem;

class ModelCache : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(root_);
    fs::create_directories(blobs_);
  }
  void write(const fs::path& path) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << "bytes";
  }
  fs::path snapshot(const std::string& commit, const std::string& to, const std::string& file = "m.gguf") {
    const fs::path path = hub_ / "models--org--tiny/snapshots" / commit / file;
    fs::create_directories(path.parent_path());
    fs::create_symlink(to, path);
    return path;
  }
  static bool there(const fs::path& path) { return fs::exists(fs::symlink_status(path)); }

  const fs::path root_ = fs::path(testing::TempDir()) / ("model-cache-" + std::to_string(getpid())),
                 hub_ = root_ / "hub", blobs_ = hub_ / "models--org--tiny/blobs";
};

TEST_F(ModelCache, a_file_goes_with_its_bytes) {
  write(blobs_ / "aa");
  const fs::path link = snapshot("c1", "../../blobs/aa");
  EXPECT_EQ(remove_from_cache(hub_, link).value(), Removal::kAll);
  EXPECT_FALSE(there(link));
  EXPECT_FALSE(there(blobs_ / "aa"));
  EXPECT_EQ(remove_from_cache(hub_, link).value(), Removal::kNothing);
}

TEST_F(ModelCache, bytes_stay_while_another_snapshot_has_them) {
  write(blobs_ / "aa");
  const fs::path link = snapshot("c1", "../../blobs/aa"), other = snapshot("c2", "../../../blobs/aa", "deep/n.gguf");
  EXPECT_EQ(remove_from_cache(hub_, link).value(), Removal::kLink);
  EXPECT_TRUE(fs::exists(other));
  EXPECT_EQ(remove_from_cache(hub_, other).value(), Removal::kAll);
}

TEST_F(ModelCache, bytes_stay_while_somebody_fetches_them) {
  write(blobs_ / "aa");
  const fs::path link = snapshot("c1", "../../blobs/aa"), lock = hub_ / ".locks/models--org--tiny/aa.lock";
  write(lock);
  const int held = open(lock.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(held, LOCK_EX), 0);
  EXPECT_EQ(remove_from_cache(hub_, link).value(), Removal::kLink);
  EXPECT_TRUE(fs::exists(blobs_ / "aa"));
  close(held);
}

TEST_F(ModelCache, no_link_leads_out_of_it) {
  write(root_ / "victim");
  write(hub_ / "models--org--other/blobs/bb");
  for (const std::string& to : {(root_ / "victim").string(), std::string("../../../../victim"),
                                std::string("../../../models--org--other/blobs/bb"), std::string("../../blobs/../x"),
                                std::string("../../blobs"), std::string("/")}) {
    const fs::path link = snapshot("c1", to);
    EXPECT_EQ(remove_from_cache(hub_, link).value(), Removal::kLink) << to;
    EXPECT_FALSE(there(link)) << to;
  }
  // A folder on the way, and names that are not the cache's.
  fs::create_directories(root_ / "elsewhere");
  write(root_ / "elsewhere/m.gguf");
  fs::create_directory_symlink(root_ / "elsewhere", hub_ / "models--org--tiny/snapshots/c9");
  EXPECT_FALSE(remove_from_cache(hub_, hub_ / "models--org--tiny/snapshots/c9/m.gguf"));
  for (const fs::path& path : {root_ / "victim", hub_ / "models--org--other/blobs/bb"})
    EXPECT_EQ(remove_from_cache(hub_, path).value(), Removal::kNothing) << path;
  EXPECT_FALSE(remove_from_cache(hub_, hub_ / "models--org--tiny/snapshots/../../../victim"));
  for (const fs::path& path : {root_ / "victim", hub_ / "models--org--other/blobs/bb", root_ / "elsewhere/m.gguf"})
    EXPECT_TRUE(fs::exists(path)) << path;
}

}  // namespace
}  // namespace llorch::hive
