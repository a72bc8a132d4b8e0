#include "engine/orch_log.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "base/ids.h"
#include "format/json.h"

namespace llorch {
namespace {

/// What a process of its own writes: the log belongs to a whole process.
std::vector<json::object> written(const std::string& path, const std::function<void()>& work, int expected_signal = 0) {
  unlink(path.c_str());
  const pid_t child = fork();
  if (child == 0) {
    setenv("ORCH_LOG_FILE", path.c_str(), 1);
    if (!orch_log::open()) _exit(99);
    work();
    std::exit(0);  // NOLINT(concurrency-mt-unsafe): the hook at exit is what is tested
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WIFSIGNALED(status) ? WTERMSIG(status) : 0, expected_signal);
  std::vector<json::object> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line, path).value().get_object());
  return lines;
}

const std::string kPath = testing::TempDir() + "orch-" + random_hex(4);

TEST(OrchLog, a_known_row_with_values_that_are_none) {
  std::vector<float> row(20, 0.5F);
  row[1] = std::numeric_limits<float>::quiet_NaN(), row[3] = -std::numeric_limits<float>::infinity();
  row[15] = std::numeric_limits<float>::infinity(), row[17] = 3.25F;
  setenv("ORCH_LOG_TEAM", "a \"team\"", 1);
  const auto lines = written(kPath, [&] { orch_log::record("logits", 41, row, "x/y.cc", 7); });
  unsetenv("ORCH_LOG_TEAM");
  ASSERT_EQ(lines.size(), 1u);
  const json::object& o = lines[0];
  EXPECT_EQ(o.at("team"), "a \"team\"");
  EXPECT_EQ(o.at("checkpoint"), "logits");
  EXPECT_EQ(o.at("token_idx").as_int64(), 41);
  EXPECT_EQ(o.at("shape"), "[1,20]");
  EXPECT_EQ(o.at("dtype"), "f32");
  EXPECT_EQ(o.at("file"), "y.cc");
  EXPECT_EQ(o.at("line").as_int64(), 7);
  const auto& values = o.at("values").get_array();
  ASSERT_EQ(values.size(), 10u);
  EXPECT_TRUE(values[1].is_null() && values[3].is_null()) << "a number was made of what is none";
  EXPECT_EQ(values[0].to_number<double>(), 0.5);
  EXPECT_EQ(o.at("nonfinite").at("nan").as_int64(), 1);
  EXPECT_EQ(o.at("nonfinite").at("inf").as_int64(), 2) << "counted over the whole row, not over what is written";
  EXPECT_EQ(o.at("argmax").as_int64(), 17);
  EXPECT_EQ(o.at("max").to_number<double>(), 3.25);
}

TEST(OrchLog, a_crash_loses_nothing) {
  const std::vector<float> row(4, 1.0F);
  for (const int number : {SIGSEGV, SIGABRT}) {
    const auto lines = written(
        kPath,
        [&] {
          for (int i = 0; i < 100; ++i) orch_log::record("logits", i, row, "f", 1);
          raise(number);
        },
        number);
    ASSERT_EQ(lines.size(), 100u);
    EXPECT_EQ(lines[99].at("token_idx").as_int64(), 99);
  }
}

TEST(OrchLog, nothing_is_written_while_it_runs_and_how_much_is_a_variable) {
  setenv("ORCH_LOG_VALUES", "3", 1);
  const auto lines = written(kPath, [&] {
    orch_log::record("logits", 0, std::vector<float>(9, 1.0F), "f", 1);
    if (std::ifstream(kPath).peek() != EOF) _exit(1);  // disk was touched
  });
  unsetenv("ORCH_LOG_VALUES");
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].at("values").get_array().size(), 3u);
  setenv("ORCH_LOG_VALUES", "many", 1);
  setenv("ORCH_LOG_FILE", kPath.c_str(), 1);
  EXPECT_FALSE(orch_log::open());
  unsetenv("ORCH_LOG_VALUES");
  setenv("ORCH_LOG_FILE", "/nowhere/at/all", 1);
  EXPECT_FALSE(orch_log::open());
  unsetenv("ORCH_LOG_FILE");
}

}  // namespace
}  // namespace llorch
