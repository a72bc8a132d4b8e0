#include "hive/memory_fit.h"

#include <gtest/gtest.h>

#include "arch/synth.h"
#include "format/gguf.h"
#include "test_data.h"

namespace llorch::hive {
namespace {

TEST(MemoryFit, a_header_whose_sizes_no_model_has_is_refused_and_its_field_is_named) {  // 15.17
  ScratchDirectory scratch;
  Metadata m;
  m.set("general.architecture", MetaValue::text("llama"));
  m.set("llama.block_count", MetaValue::u32(1u << 24));
  m.set("llama.attention.head_count_kv", MetaValue::u32(1u << 16));
  m.set("llama.attention.key_length", MetaValue::u32(1u << 24));
  m.set("llama.context_length", MetaValue::u32(4096));
  m.set("llama.embedding_length", MetaValue::u32(64));
  GgufTensorPlan embedding{"token_embd.weight", DType::kF32, {64, 32}, [](std::span<std::byte>) { return Status(); }};
  ASSERT_TRUE(write_gguf(scratch / "m.gguf", m, {embedding}));
  const auto need = memory_need(scratch / "m.gguf", 4096, 8);
  ASSERT_FALSE(need) << need->kv;
  EXPECT_EQ(need.error().code, ErrorCode::kModelIncompatible);
  EXPECT_NE(need.error().message.find("block_count"), std::string::npos) << need.error().message;
}

TEST(MemoryFit, more_sequences_than_there_can_be_memory_for_are_refused) {
  ScratchDirectory scratch;
  arch::SynthRequest request;
  request.shape = "tiny-llama", request.type = "Q8_0";
  ASSERT_TRUE(arch::synthesize(request, scratch / "m.gguf"));
  const auto need = memory_need(scratch / "m.gguf", 0, std::int64_t{1} << 50);
  ASSERT_FALSE(need) << need->kv;
  EXPECT_EQ(need.error().code, ErrorCode::kModelIncompatible);
}

/// By hand: 2 layers, 2 heads of 64 values, keys and values of 2 bytes, 256 positions: of one sequence, as 3 are
/// expected to use a quarter of what they may; of 12 sequences three.
TEST(MemoryFit, keys_and_values_are_what_the_layers_declare) {
  ScratchDirectory scratch;
  arch::SynthRequest request;
  request.shape = "tiny-gpt-oss", request.type = "Q8_0";
  ASSERT_TRUE(arch::synthesize(request, scratch / "m.gguf"));
  const auto need = memory_need(scratch / "m.gguf", 0, 3);
  ASSERT_TRUE(need) << need.error().message;
  EXPECT_EQ(need->kv, 2 * 2 * 64 * 2 * 2 * 256);
  EXPECT_EQ(memory_need(scratch / "m.gguf", 0, 12)->kv, 2 * 2 * 64 * 2 * 2 * 256 * 3);
  EXPECT_EQ(memory_need(scratch / "m.gguf", 0, 3, kv_precision("f32"))->kv, 2 * need->kv);
  EXPECT_EQ(memory_need(scratch / "m.gguf", 64, 3)->kv, need->kv / 4) << "64 positions of 256";
  EXPECT_EQ(need->context, 256);
  EXPECT_EQ(need->architecture, "gpt-oss");
  EXPECT_EQ(need->quant, "Q8_0");
}

}  // namespace
}  // namespace llorch::hive
