#include "hive/memory_fit.h"

#include <gtest/gtest.h>

#include "format/gguf.h"
#include "test_data.h"

namespace llorch::hive {
namespace {

TEST(MemoryFit, a_header_whose_product_wraps_is_refused_and_its_fields_are_named) {  // 15.17
  ScratchDirectory scratch;
  Metadata m;
  m.set("general.architecture", MetaValue::text("llama"));
  m.set("llama.block_count", MetaValue::u32(1u << 24));
  m.set("llama.attention.head_count_kv", MetaValue::u32(1u << 16));
  m.set("llama.attention.key_length", MetaValue::u32(1u << 24));
  ASSERT_TRUE(write_gguf(scratch / "m.gguf", m, {}));
  const auto need = memory_need(scratch / "m.gguf", 4096, 8);  // 2^24 * 2^16 * 2^25 * 2 * 2^12 * 2^3: 2^81 bytes
  ASSERT_FALSE(need) << need->kv;
  EXPECT_EQ(need.error().code, ErrorCode::kModelIncompatible);
  for (const char* field : {"block_count", "head_count_kv", "key_length"})
    EXPECT_NE(need.error().message.find(field), std::string::npos) << need.error().message;
}

}  // namespace
}  // namespace llorch::hive
