// A worker is ended for its dead hive's sake, and for nobody else's.
#include "hive/worker_records.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

namespace llorch::hive {
namespace {

class Records : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/llorch-records-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    file_ = folder_ + "/workers.pid";
    child_ = fork();
    if (child_ == 0) {
      pause();
      _exit(0);
    }
  }
  void TearDown() override {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    std::filesystem::remove_all(folder_);
  }
  void write(const ProcessIdentity& worker, const ProcessIdentity& hive, const std::string& program) {
    std::ofstream(file_, std::ios::app) << worker.pid << ' ' << worker.started << ' ' << hive.pid << ' ' << hive.started
                                        << ' ' << program << '\n';
  }
  [[nodiscard]] bool alive() const { return waitpid(child_, nullptr, WNOHANG) == 0; }
  std::string folder_, file_;
  pid_t child_ = 0;
};

TEST_F(Records, a_worker_of_a_running_hive_is_left_alone) {
  const WorkerRecords records(file_);
  ASSERT_TRUE(records.add(child_, std::filesystem::read_symlink("/proc/self/exe").string()));
  EXPECT_TRUE(records.end_orphans().empty()) << "this process is the hive, and runs";
  EXPECT_TRUE(alive());
  EXPECT_TRUE(std::filesystem::exists(file_)) << "the record is still needed";
}

TEST_F(Records, a_worker_is_ended_when_its_hive_is_gone) {
  const auto worker = identity_of_process(child_), hive = identity_of_process(getpid());
  ASSERT_TRUE(worker && hive);
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const ProcessIdentity gone{hive->pid, hive->started + 1};  // another process that had the same id
  write({worker->pid, worker->started + 1}, gone, program);  // the id belongs to another process now
  write(*worker, gone, "/bin/other program");
  std::ofstream(file_, std::ios::app) << "1 2\nnonsense\n-1 5 6 7 /x\n";
  EXPECT_TRUE(WorkerRecords(file_).end_orphans().empty());
  EXPECT_TRUE(alive());
  write(*worker, gone, program);
  EXPECT_EQ(WorkerRecords(file_).end_orphans(), std::vector<int>{child_});
  int status = 0;
  ASSERT_EQ(waitpid(child_, &status, 0), child_);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_FALSE(std::filesystem::exists(file_));
}

}  // namespace
}  // namespace llorch::hive
