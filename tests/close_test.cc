// The comparator itself: what must fail does.
#include "close.h"

#include <limits>
#include <vector>

namespace llorch {
namespace {

using Values = std::vector<float>;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

TEST(Close, accepts_equal_and_near_values) {
  EXPECT_TRUE(close(Values{1, 2, 3}, Values{1, 2, 3}, 0));
  EXPECT_TRUE(close(Values{1, 2, 3.003f}, Values{1, 2, 3}, 1.1e-3));
}
TEST(Close, refuses_what_lies_outside_the_tolerance) {
  EXPECT_FALSE(close(Values{1, 2, 3.01f}, Values{1, 2, 3}, 1e-3));
}
TEST(Close, refuses_nan_on_either_side) {
  EXPECT_FALSE(close(Values{1, kNan}, Values{1, 2}, 1));
  EXPECT_FALSE(close(Values{1, 2}, Values{1, kNan}, 1));
  EXPECT_FALSE(close(Values{kNan}, Values{kNan}, 1));
}
TEST(Close, refuses_infinity) { EXPECT_FALSE(close(Values{kInf}, Values{kInf}, 1)); }
TEST(Close, refuses_empty_input_and_other_shapes) {
  EXPECT_FALSE(close(Values{}, Values{}, 1));
  EXPECT_FALSE(close(Values{1}, Values{1, 1}, 1));
}
TEST(Close, refuses_expected_values_that_are_all_zero) { EXPECT_FALSE(close(Values{0}, Values{0}, 1)); }
TEST(Close, refuses_a_shifted_row) { EXPECT_FALSE(close(Values{2, 3, 4, 1}, Values{1, 2, 3, 4}, 1e-2)); }

}  // namespace
}  // namespace llorch
