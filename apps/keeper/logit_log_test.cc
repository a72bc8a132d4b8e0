#include "keeper/logit_log.h"

#include <gtest/gtest.h>

#include <fstream>

namespace llorch::keeper {
namespace {

std::string file(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + name;
  std::ofstream(path) << text;
  return path;
}
std::string line(int position, const std::string& values, const std::string& more = "") {
  return R"({"team":"t","checkpoint":"logits","token_idx":)" + std::to_string(position) + R"(,"values":[)" + values +
         "]" + more + "}\n";
}

TEST(LogitLog, what_is_planted_is_found_where_it_is) {
  const auto log = read_logit_log(
      file("a.jsonl", line(3, "1,2,3") + line(4, "1,null,3", R"(,"nonfinite":{"nan":1,"inf":0})") +
                          line(5, "1,1e16,3") + line(6, "1,2000,3") + "{\"checkpoint\":\"embedding\"}\n"));
  ASSERT_TRUE(log) << log.error().message;
  ASSERT_EQ(log->rows.size(), 4u);
  const RowStats fine = stats_of(log->rows.at(3));
  EXPECT_EQ(fine.min, 1);
  EXPECT_EQ(fine.max, 3);
  EXPECT_EQ(fine.mean, 2);
  EXPECT_NEAR(fine.deviation, 0.81649658, 1e-7);  // sqrt(2/3)
  EXPECT_EQ(fine.nonfinite + fine.garbage + fine.suspicious, 0);
  EXPECT_EQ(stats_of(log->rows.at(4)).nonfinite, 1);
  EXPECT_EQ(stats_of(log->rows.at(5)).garbage, 1);
  const RowStats odd = stats_of(log->rows.at(6));
  EXPECT_EQ(odd.suspicious, 1);
  EXPECT_EQ(odd.garbage, 0);
}

TEST(LogitLog, malformed_ones_are_refused_with_their_line) {
  for (const char* bad :
       {"{", "[]", R"({"checkpoint":"logits"})", R"({"checkpoint":"logits","token_idx":-1,"values":[]})",
        R"({"checkpoint":"logits","token_idx":0,"values":["x"]})",
        R"({"checkpoint":"logits","token_idx":1e99,"values":[1]})"}) {
    const auto log = read_logit_log(file("bad.jsonl", line(0, "1") + bad + "\n"));
    ASSERT_FALSE(log) << bad;
    EXPECT_NE(log.error().message.find("bad.jsonl:2"), std::string::npos) << log.error().message;
  }
  EXPECT_FALSE(read_logit_log("/nowhere.jsonl"));
}

TEST(LogitLog, the_borders_of_the_verdict) {
  using Verdict = RowDifference::Verdict;
  const auto verdict = [](const std::string& reference, const std::string& ours, const std::string& more = "") {
    const auto a = read_logit_log(file("r.jsonl", line(0, reference, more))),
               b = read_logit_log(file("o.jsonl", line(0, ours, more)));
    const auto rows = compare_logs(*a, *b);
    return rows.at(0).verdict;
  };
  EXPECT_EQ(verdict("1,-100,50", "1,-100,50"), Verdict::kParity);
  EXPECT_EQ(verdict("1,-100,50", "1,-100.9,50"), Verdict::kParity);
  EXPECT_EQ(verdict("1,-100,50", "1,-101.1,50"), Verdict::kOpen);
  EXPECT_EQ(verdict("1,-100,50", "1,-110.1,50"), Verdict::kBug);
  EXPECT_EQ(verdict("1,-100,50", "1,null,50"), Verdict::kBug);
  EXPECT_EQ(verdict("50,49.9,-100", "49.9,50,-100"), Verdict::kBug) << "another most likely token";
  EXPECT_EQ(verdict("50,49.9", "49.9,50", R"(,"argmax":7)"), Verdict::kParity)
      << "the most likely of all is the same one elsewhere";
  const auto a = read_logit_log(file("r.jsonl", line(0, "1") + line(1, "1,2"))),
             b = read_logit_log(file("o.jsonl", line(1, "1,2.5") + line(2, "1")));
  const auto rows = compare_logs(*a, *b);
  ASSERT_EQ(rows.size(), 1u) << "only what both have";
  EXPECT_EQ(rows[0].token_idx, 1);
  EXPECT_EQ(rows[0].max_abs, 0.5);
  EXPECT_EQ(rows[0].mean_abs, 0.25);
  EXPECT_EQ(rows[0].reference, 2);
  EXPECT_EQ(rows[0].ours, 2.5);
}

}  // namespace
}  // namespace llorch::keeper
