#include "keeper/same_arrays.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>

namespace llorch::keeper {
namespace {

std::string file_of(const std::string& type, const std::string& shape, const std::string& data) {
  const std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) + '\0' + header + data;
}
Result<NpyArray> parse(const std::string& file) { return parse_npy(std::as_bytes(std::span(file)), "x.npy"); }

std::string floats(std::initializer_list<float> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * 4};
}

TEST(SameArrays, the_first_difference_is_named_as_number_and_bits) {
  const std::string a = file_of("<f4", "(2, 3)", floats({1, 2, 3, 4, 0.1f, 6})),
                    b = file_of("<f4", "(2, 3)", floats({1, 2, 3, 4, std::bit_cast<float>(0x3dccccceu), -6}));
  const ArrayDifference same = compare_arrays(*parse(a), *parse(a)), d = compare_arrays(*parse(a), *parse(b));
  EXPECT_TRUE(same.same);
  EXPECT_EQ(same.text, "the same: 6 values of <f4, shape (2, 3)\n");
  EXPECT_FALSE(d.same);
  EXPECT_EQ(d.first, 4u);
  EXPECT_EQ(d.count, 2u);
  EXPECT_EQ(d.text,
            "the first of 2 differences of 6 values is at 4 [1, 1]: 0.1 (0x3dcccccd) and 0.10000001 (0x3dccccce)\n");
}

TEST(SameArrays, zeros_of_both_signs_differ_and_a_nan_is_itself) {
  const std::string zero = file_of("<f4", "(1,)", floats({0.0f})), minus = file_of("<f4", "(1,)", floats({-0.0f})),
                    none = file_of("<f4", "(1,)", floats({std::bit_cast<float>(0x7fc00000u)}));
  EXPECT_FALSE(compare_arrays(*parse(zero), *parse(minus)).same);
  EXPECT_TRUE(compare_arrays(*parse(none), *parse(none)).same);
}

TEST(SameArrays, types_and_shapes_are_compared_first) {
  const std::string a = file_of("<f4", "(2,)", floats({1, 2})), b = file_of("<i4", "(1, 2)", floats({1, 2}));
  EXPECT_EQ(compare_arrays(*parse(a), *parse(b)).text, "types differ: <f4 and <i4\nshapes differ: (2) and (1, 2)\n");
  const std::string half = file_of("<f2", "()", std::string("\x00\x3c", 2)),
                    other = file_of("<f2", "()", std::string("\x01\xbc", 2));
  EXPECT_EQ(compare_arrays(*parse(half), *parse(other)).text,
            "the first of 1 differences of 1 values is at 0 []: 1 (0x3c00) and -1.0009765625 (0xbc01)\n");
}

TEST(SameArrays, what_is_no_array_is_refused) {
  const std::string good = file_of("<f4", "(2,)", floats({1, 2}));
  for (std::size_t cut = 0; cut < good.size(); ++cut) EXPECT_FALSE(parse(good.substr(0, cut)).has_value()) << cut;
  EXPECT_FALSE(parse(good + "x").has_value());
  EXPECT_FALSE(parse(file_of(">f4", "(2,)", floats({1, 2}))).has_value());
  EXPECT_FALSE(parse(file_of("|O", "(2,)", floats({1, 2}))).has_value());
  EXPECT_FALSE(parse(file_of("<f4", "(4294967296, 4294967296, 4)", "")).has_value());
  EXPECT_FALSE(parse(file_of("<f4", "(-1,)", "")).has_value());
  EXPECT_TRUE(parse(file_of("<f4", "(0, 3)", "")).has_value());
}

}  // namespace
}  // namespace llorch::keeper
