// SafeTensors headers and directories: the valid one is read, every lie is refused.
#include "format/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "test_data.h"

namespace llorch {
namespace {

std::vector<std::byte> file_of(const std::string& header, std::size_t payload) {
  std::vector<std::byte> bytes(8 + header.size() + payload);
  const std::uint64_t size = header.size();
  std::memcpy(bytes.data(), &size, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  return bytes;
}

void expect_refused(const std::string& header, std::size_t payload, const char* reason) {
  const auto parsed = parse_safetensors(file_of(header, payload), "t");
  ASSERT_FALSE(parsed) << header;
  EXPECT_NE(parsed.error().message.find(reason), std::string::npos) << parsed.error().message;
}

TEST(Safetensors, reads_names_types_and_shapes_turned_round) {
  const auto bytes = file_of(
      R"({"__metadata__":{"a":"b"},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]}})",
      16);
  const auto tensors = parse_safetensors(bytes, "t");
  ASSERT_TRUE(tensors) << tensors.error().message;
  ASSERT_EQ(tensors->size(), 2u);
  EXPECT_EQ((*tensors)[0].name, "w");
  EXPECT_EQ((*tensors)[0].type, DType::kBF16);
  EXPECT_EQ((*tensors)[0].columns(), 3u);
  EXPECT_EQ((*tensors)[0].rows(), 2u);
  EXPECT_EQ((*tensors)[1].values(), 1u);
}

TEST(Safetensors, lies_are_refused) {
  expect_refused("[]", 0, "no JSON object");
  expect_refused("{", 0, "not valid JSON");
  expect_refused(R"({"w":{"dtype":"F32","shape":[2]}})", 8, "lacks");
  expect_refused(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,12]}})", 12, "its shape needs 8");
  expect_refused(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "outside");
  expect_refused(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "outside");
  expect_refused(R"({"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "impossible shape");
  expect_refused(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8,
                 "impossible shape");
  expect_refused(R"({"w":{"dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[0,8]}})", 8, "dimensions");
  expect_refused(R"({"w":{"dtype":"X9","shape":[2],"data_offsets":[0,8]}})", 8, "'X9'");
  expect_refused(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12, "hole");
  expect_refused(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 12, "follow the last tensor");
  expect_refused(
      R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
      12, "overlaps");
}

TEST(Safetensors, header_length_is_checked_before_it_is_believed) {
  for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 31,
                                     std::uint64_t{0xffffffff}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    std::vector<std::byte> bytes = file_of("{}", 0);
    std::memcpy(bytes.data(), &length, 8);
    EXPECT_FALSE(parse_safetensors(bytes, "t")) << length;
  }
  for (std::size_t n = 0; n < 8; ++n) EXPECT_FALSE(parse_safetensors(std::vector<std::byte>(n), "t"));
}

void put(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

TEST(SafetensorsDirectory, refuses_pickles_remote_code_and_paths_outside) {
  ScratchDirectory d;
  const auto expect = [&](const char* reason) {
    const auto opened = SafetensorsDirectory::open(d.path());
    ASSERT_FALSE(opened);
    EXPECT_NE(opened.error().message.find(reason), std::string::npos) << opened.error().message;
  };
  expect("config.json");
  put(d / "config.json", R"({"model_type":"llama","auto_map":{"AutoModel":"x.Y"}})");
  expect("auto_map");
  put(d / "config.json", R"({"model_type":"llama"})");
  expect("no model.safetensors");
  put(d / "pytorch_model.bin", "x");
  expect(".bin");
  for (const char* name : {"../x.safetensors", "/etc/passwd", "a/b", ""}) {
    put(d / "model.safetensors.index.json", fmt::format(R"({{"weight_map":{{"w":"{}"}}}})", name));
    expect("outside the directory");
  }
}

}  // namespace
}  // namespace llorch
