// A model's quantization by its name: what the file states, where its tensors bear it out.
#include "format/quantization.h"

#include <gtest/gtest.h>

namespace llorch {
namespace {

/// With a large embedding in one type, and matrices in another.
class Source : public WeightSource {
 public:
  Source(DType embedding, DType matrices, std::optional<std::uint32_t> stated) : bytes_(1000) {
    add(embedding, 700), add(matrices, 300);
    if (stated) metadata_.set("general.file_type", MetaValue::u32(*stated));
  }

 private:
  void add(DType type, std::size_t size) {
    TensorView t;
    t.type = type, t.data = std::span(bytes_).first(size);
    tensors_.push_back(t);
  }
  std::vector<std::byte> bytes_;
};

TEST(Quantization, is_what_the_file_states) {
  EXPECT_EQ(quantization_name(Source(DType::kQ8_0, DType::kQ4_K, 15)), "Q4_K_M");
  EXPECT_EQ(quantization_name(Source(DType::kQ6_K, DType::kQ4_K, 14)), "Q4_K_S");
  EXPECT_EQ(quantization_name(Source(DType::kF16, DType::kIQ3_S, 27)), "IQ3_M");
}

TEST(Quantization, is_that_of_most_bytes_where_the_file_states_none_that_it_has) {
  EXPECT_EQ(quantization_name(Source(DType::kQ8_0, DType::kQ4_K, std::nullopt)), "Q8_0");
  EXPECT_EQ(quantization_name(Source(DType::kQ8_0, DType::kQ4_K, 2)), "Q8_0") << "of what it was made of, say";
  EXPECT_EQ(quantization_name(Source(DType::kQ8_0, DType::kQ4_K, 4711)), "Q8_0");
}

TEST(Quantization, has_a_number_in_files) {
  EXPECT_EQ(file_type_number("Q4_K_M"), 15u);
  EXPECT_EQ(file_type_number("F32"), 0u);
  EXPECT_EQ(file_type_number("NVFP4"), std::nullopt);
}

}  // namespace
}  // namespace llorch
