// Tables in the width that a screen has.
#include "keeper/table.h"

#include <gtest/gtest.h>

#include <sstream>

#include "base/status_line.h"

namespace llorch::keeper {
namespace {

const std::vector<std::string> kHeader{"id", "model", "memory", "state"};
const std::vector<std::vector<std::string>> kRows{{"a-long-id", "org/repository:Q4_K_M", "98 MB of 1.2 GB", "ready"},
                                                  {"b", "ü/日本語:Q8_0", "-", "busy"}};

std::size_t widest(const std::string& text) {
  std::istringstream lines(text);
  std::size_t most = 0;
  for (std::string line; std::getline(lines, line);) most = std::max(most, columns_of(line));
  return most;
}

TEST(Table, WhatMattersLeastLeavesFirst) {
  const auto made = [](std::size_t columns) {
    return table_text(kHeader, kRows, 2, {columns, {"state", "memory"}, "model"});
  };
  EXPECT_EQ(made(0), table_text(kHeader, kRows, 2));
  EXPECT_EQ(made(200), table_text(kHeader, kRows, 2));
  const std::size_t all = widest(made(0));
  for (std::size_t columns = 22; columns <= all; ++columns) EXPECT_LE(widest(made(columns)), columns) << made(columns);
  const std::string some = made(all - 1);
  EXPECT_FALSE(some.contains("state"));
  EXPECT_TRUE(some.contains("98 MB of 1.2 GB"));
  const std::string few = made(28);
  EXPECT_FALSE(few.contains("memory"));
  EXPECT_TRUE(few.contains("…")) << few;
  EXPECT_TRUE(few.contains("Q4_K_M")) << "the end of a name tells more than its beginning";
  EXPECT_TRUE(few.contains("a-long-id"));
}

}  // namespace
}  // namespace llorch::keeper
