#include "hive/memory_fit.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "arch/hf_source.h"
#include "arch/synth.h"
#include "format/gguf.h"
#include "test_data.h"

namespace llorch::hive {
namespace {

RunSize sized(std::int64_t context, std::int64_t parallel) {
  RunSize size;
  size.context = context, size.parallel = parallel;
  return size;
}

/// A llama of 131,072 positions; its weights are ones or zeros, for its sizes alone count.
std::string long_model(const ScratchDirectory& scratch) {
  arch::SynthRequest request;
  request.shape = "tiny-llama", request.type = "Q8_0";
  EXPECT_TRUE(arch::synthesize(request, scratch / "short.gguf"));
  const auto source = arch::open_source(scratch / "short.gguf").value();
  Metadata m = source->metadata();
  m.set("llama.context_length", MetaValue::u32(131'072));
  std::vector<GgufTensorPlan> tensors;
  for (const TensorView& t : source->tensors()) {
    const auto fill = [type = t.type](std::span<std::byte> out) {
      constexpr float kOne = 1;
      for (std::size_t at = 0; type == DType::kF32 && at < out.size(); at += sizeof kOne)
        std::memcpy(out.data() + at, &kOne, sizeof kOne);
      return Status();
    };
    tensors.push_back({t.name, t.type, {t.dims.begin(), t.dims.begin() + t.n_dims}, fill});
  }
  EXPECT_TRUE(write_gguf(scratch / "long.gguf", m, tensors));
  return scratch / "long.gguf";
}

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
  const auto need = memory_need(scratch / "m.gguf", sized(4096, 8));
  ASSERT_FALSE(need) << need->kv;
  EXPECT_EQ(need.error().code, ErrorCode::kModelLoadFailed);
  EXPECT_NE(need.error().message.find("block_count"), std::string::npos) << need.error().message;
}

TEST(MemoryFit, more_sequences_than_there_can_be_memory_for_are_refused) {
  ScratchDirectory scratch;
  arch::SynthRequest request;
  request.shape = "tiny-llama", request.type = "Q8_0";
  ASSERT_TRUE(arch::synthesize(request, scratch / "m.gguf"));
  const auto need = memory_need(scratch / "m.gguf", sized(0, std::int64_t{1} << 50));
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
  const auto need = memory_need(scratch / "m.gguf", sized(0, 3));
  ASSERT_TRUE(need) << need.error().message;
  EXPECT_EQ(need->kv, 2 * 2 * 64 * 2 * 2 * 256);
  EXPECT_EQ(memory_need(scratch / "m.gguf", sized(0, 12))->kv, 2 * 2 * 64 * 2 * 2 * 256 * 3);
  RunSize wide = sized(0, 3);
  wide.kv = kv_precision("f32");
  EXPECT_EQ(memory_need(scratch / "m.gguf", wide)->kv, 2 * need->kv);
  EXPECT_EQ(memory_need(scratch / "m.gguf", sized(64, 3))->kv, need->kv / 4) << "64 positions of 256";
  EXPECT_EQ(need->context, 256);
  EXPECT_EQ(need->architecture, "gpt-oss");
  EXPECT_EQ(need->quant, "Q8_0");
}

TEST(MemoryFit, the_context_is_the_model_s_own_as_far_as_half_of_the_rest_allows) {
  ScratchDirectory scratch;
  const std::string model = long_model(scratch);
  const auto with_room = [&](std::optional<std::int64_t> room) {
    RunSize size;
    size.room = room;
    const auto need = memory_need(model, size);
    EXPECT_TRUE(need) << need.error().message;
    return need.value_or(Need());
  };
  const Need least = with_room(std::nullopt), all = with_room(std::int64_t{1} << 40);
  EXPECT_EQ(least.context, kLeastContext) << "where memory is not known";
  EXPECT_EQ(all.context, 131'072);
  EXPECT_EQ(all.own_context, 131'072);
  // What the whole context needs beside the least, twice: just enough, and a byte less is not.
  const std::int64_t enough = least.total() + 2 * (all.total() - least.total());
  EXPECT_EQ(with_room(enough).context, 131'072);
  EXPECT_EQ(with_room(enough - 2).context, 65'536);
  EXPECT_EQ(with_room(enough - 2).context_text(), "a context of 65536 of the model's 131072");
  for (std::int64_t room = 0; room < enough; room += enough / 50) {
    const Need n = with_room(room);
    EXPECT_GE(n.context, kLeastContext);
    if (n.context > kLeastContext) EXPECT_LE(n.total(), room) << room;
  }
}

TEST(MemoryFit, a_context_that_is_set_is_taken_or_refused) {
  ScratchDirectory scratch;
  const std::string model = long_model(scratch);
  RunSize size = sized(32'768, 8);
  size.room = 0;
  EXPECT_EQ(memory_need(model, size)->context, 32'768) << "its hive says that there is no room";
  size.context = 131'073;
  const auto long_one = memory_need(model, size);
  ASSERT_FALSE(long_one);
  EXPECT_EQ(long_one.error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(long_one.error().message, "a context of 131073 is set for the model, which has 131072");
  size.cut_context = true;  // of all workers of a machine: one model may have less
  const auto cut = memory_need(model, size);
  EXPECT_EQ(cut->context, 131'072);
  EXPECT_EQ(cut->context_text(), "a context of 131072, which is all that the model has ([worker] ctx asks for 131073)");
}

TEST(MemoryFit, what_the_file_says_of_all_workers_counts) {
  ScratchDirectory scratch;
  std::ofstream(scratch / "config.toml") << "[hive]\nport = 8600\n[worker]\nctx = 512\nmax_batch = 2\n"
                                            "[worker.kv]\ntype = \"f32\"\n[worker.cache]\nram_mb = 3\n";
  const WorkerDefaults all = WorkerDefaults::read(scratch / "config.toml");
  const RunSize size({}, all);
  EXPECT_EQ(size.context, 512);
  EXPECT_EQ(size.parallel, 2);
  EXPECT_EQ(size.kv, KvPrecision::kF32);
  EXPECT_EQ(size.cache_ram_bytes, 3 << 20);
  colony::ModelSettings own;
  ASSERT_TRUE(own.set("ctx", "64"));
  EXPECT_EQ(RunSize(own, all).context, 64);
  EXPECT_FALSE(RunSize(own, all).cut_context);
  EXPECT_EQ(RunSize(own, all).parallel, 2);
  EXPECT_EQ(RunSize({}, WorkerDefaults::read(scratch / "none.toml")).parallel, 8);
  std::ofstream(scratch / "broken.toml") << "[worker\nctx = 512\n";
  EXPECT_EQ(RunSize({}, WorkerDefaults::read(scratch / "broken.toml")).context, 0) << "the worker says so itself";
}

}  // namespace
}  // namespace llorch::hive
