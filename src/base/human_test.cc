// Figures for people, and the line of a terminal that they stand on.
#include "base/human.h"

#include <gtest/gtest.h>

#include "base/status_line.h"

namespace llorch {
namespace {

TEST(Human, sizes_have_three_digits_and_a_unit) {
  for (const auto& [bytes, text] : {std::pair(0.0, "0 B"),
                                    {999, "999 B"},
                                    {1000, "1.00 kB"},
                                    {98'304'000, "98.3 MB"},
                                    {999'600'000, "1.00 GB"},
                                    {1.25e9, "1.25 GB"},
                                    {123e12, "123 TB"},
                                    {5e18, "5000000 TB"}})
    EXPECT_EQ(size_text(bytes), text) << bytes;
}

TEST(Human, durations_have_the_unit_that_fits) {
  for (const auto& [seconds, text] : {std::pair(0.0702, "70 ms"),
                                      {0.0, "0 ms"},
                                      {-1.0, "0 ms"},
                                      {1.25, "1.25 s"},
                                      {59.9, "59.9 s"},
                                      {60.0, "1 min"},
                                      {200.0, "3 min 20 s"},
                                      {7500.0, "2 h 5 min"},
                                      {273'600.0, "3 d 4 h"},
                                      {1e300, "11574 d 1 h"}})
    EXPECT_EQ(duration_text(seconds), text) << seconds;
  EXPECT_EQ(duration_text(1.0 / 0.0), "?");
}

TEST(Human, a_bar_is_full_at_the_end_only) {
  EXPECT_EQ(bar_text(0), "[               ]   0 %");
  EXPECT_EQ(bar_text(0.999), "[############## ]  99 %");
  EXPECT_EQ(bar_text(7), "[###############] 100 %");
  EXPECT_EQ(bar_text(0.0 / 0.0), bar_text(0));
}

TEST(StatusLine, text_is_cut_to_the_columns_of_a_terminal) {
  EXPECT_EQ(columns_of("caf\xC3\xA9 \xE6\x97\xA5\xE6\x9C\xAC \xF0\x9F\x98\x80"), 4u + 1 + 4 + 1 + 2);
  EXPECT_EQ(cut_to_columns("a\xE6\x97\xA5z", 2), "a") << "half a character is none";
  EXPECT_EQ(cut_to_columns("a\xE6\x97\xA5z", 3), "a\xE6\x97\xA5");
  EXPECT_EQ(cut_to_columns("caf\xC3\xA9", 99), "caf\xC3\xA9");
  EXPECT_EQ(cut_to_columns("one\ntwo", 99), "one");
}

}  // namespace
}  // namespace llorch
