// GGUF: what is written is read back; what is damaged is refused, cheaply and with a reason (S-50..52).
#include "format/gguf.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cstring>
#include <fstream>

#include "base/mapped_file.h"
#include "base/random.h"
#include "test_data.h"

namespace llorch {
namespace {

using Bytes = std::vector<std::byte>;

GgufTensorPlan tensor(std::string name, DType type, std::vector<std::uint64_t> dims) {
  return {std::move(name), type, std::move(dims), [](std::span<std::byte> out) -> Status {
            for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 7);
            return {};
          }};
}

Metadata sample_metadata() {
  Metadata m;
  m.set("general.architecture", MetaValue::text("llama"));
  m.set("a.u32", MetaValue::u32(7));
  m.set("a.f32", MetaValue::f32(1.5f));
  m.set("a.bool", MetaValue::boolean(true));
  m.set("a.strings", MetaValue::strings({"one", "", "drei"}));
  m.set("a.numbers", MetaValue::f32s({0.5, -2}));
  m.set("a.integers", MetaValue::i32s({-1, 2, 3}));
  return m;
}

Bytes bytes_of(const std::string& path) {
  const MappedFile file = MappedFile::open(path).value();
  return {file.bytes().begin(), file.bytes().end()};
}

Result<std::unique_ptr<GgufFile>> read(const Bytes& bytes) { return GgufFile::from_memory(bytes); }

/// A small valid file's bytes.
Bytes sample_file() {
  ScratchDirectory scratch;
  EXPECT_TRUE(write_gguf(scratch / "a.gguf", sample_metadata(),
                         {tensor("x", DType::kF32, {8, 3}), tensor("y", DType::kQ4_0, {64, 2})}));
  return bytes_of(scratch / "a.gguf");
}

TEST(Gguf, reads_back_what_it_wrote) {
  const Bytes bytes = sample_file();
  const auto file = read(bytes);
  ASSERT_TRUE(file) << file.error().message;
  const Metadata& m = (*file)->metadata();
  EXPECT_EQ(m.text("general.architecture").value(), "llama");
  EXPECT_EQ(m.unsigned_integer("a.u32").value(), 7u);
  EXPECT_EQ(m.number("a.f32").value(), 1.5);
  EXPECT_TRUE(m.boolean("a.bool").value());
  EXPECT_EQ(*m.strings("a.strings").value(), (MetaValue::Strings{"one", "", "drei"}));
  EXPECT_EQ(m.numbers("a.numbers").value(), (MetaValue::Floats{0.5, -2}));
  EXPECT_EQ(*m.integers("a.integers").value(), (MetaValue::Integers{-1, 2, 3}));
  ASSERT_EQ((*file)->tensors().size(), 2u);
  const TensorView* y = (*file)->find("y");
  ASSERT_NE(y, nullptr);
  EXPECT_EQ(y->type, DType::kQ4_0);
  EXPECT_EQ(y->columns(), 64u);
  EXPECT_EQ(y->rows(), 2u);
  EXPECT_EQ(y->data.size(), 4u * 18);
  EXPECT_EQ(y->data[3], static_cast<std::byte>(21));
}

TEST(Gguf, version_2_is_read_and_others_are_not) {
  Bytes bytes = sample_file();
  for (const auto& [version, ok] : {std::pair{2, true}, {3, true}, {1, false}, {4, false}, {0, false}}) {
    const std::uint32_t v = static_cast<std::uint32_t>(version);
    std::memcpy(bytes.data() + 4, &v, 4);
    EXPECT_EQ(read(bytes).has_value(), ok) << version;
  }
}

TEST(Gguf, every_truncation_and_every_appended_byte_is_refused) {
  const Bytes bytes = sample_file();
  for (std::size_t n = 0; n + 32 < bytes.size(); ++n) {
    const Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    const auto file = read(cut);
    ASSERT_FALSE(file) << "a file cut to " << n << " of " << bytes.size() << " bytes was accepted";
    ASSERT_EQ(file.error().code, ErrorCode::kModelLoadFailed);
  }
  Bytes longer = bytes;
  longer.resize(bytes.size() + 64);
  EXPECT_FALSE(read(longer)) << "bytes behind the last tensor were accepted";
}

constexpr std::uint64_t kHostile[] = {0, 1, 1ull << 31, 0xffffffffull, 1ull << 63, ~0ull};

/// Every aligned and unaligned position holds each hostile value in turn, as 32 and as 64 bits: counts, lengths, types,
/// dimensions and offsets are all among them. Nothing may crash, and whatever is accepted must be readable to its last
/// byte.
TEST(Gguf, hostile_values_in_every_field_end_in_an_error_or_a_readable_file) {
  const Bytes original = sample_file();
  std::uint64_t checksum = 0;
  int refused = 0;
  for (std::size_t at = 0; at + 8 <= original.size(); ++at)
    for (const std::uint64_t value : kHostile)
      for (const std::size_t size : {4u, 8u}) {
        Bytes bytes = original;
        std::memcpy(bytes.data() + at, &value, size);
        const auto file = read(bytes);
        if (!file) {
          ++refused;
          ASSERT_FALSE(file.error().message.empty());
          continue;
        }
        for (const TensorView& t : (*file)->tensors())
          for (const std::byte b : t.data) checksum += static_cast<std::uint64_t>(b);
      }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(checksum, 0u);
}

/// Header fields by name, so that each refusal is for the right reason.
struct Field {
  const char* name;
  std::size_t offset;
  std::uint64_t value;
  std::size_t size;
  const char* reason;
};

TEST(Gguf, header_fields_are_refused_by_name) {
  const Bytes original = sample_file();
  const Field fields[] = {
      {"magic", 0, 0x12345678, 4, "not a GGUF file"},
      {"tensor count", 8, 1ull << 63, 8, "tensors, the limit"},
      {"tensor count", 8, 9999, 8, "in "},
      {"key count", 16, ~0ull, 8, "keys, the limit"},
      {"first key's length", 24, 1ull << 31, 8, "declares"},
      {"first key's type", 24 + 8 + 20, 77, 4, "unknown value type"},
  };
  for (const Field& f : fields) {
    Bytes bytes = original;
    std::memcpy(bytes.data() + f.offset, &f.value, f.size);
    const auto file = read(bytes);
    ASSERT_FALSE(file) << f.name;
    EXPECT_NE(file.error().message.find(f.reason), std::string::npos) << f.name << ": " << file.error().message;
  }
}

/// Metadata and tensor tables with a lie in them, written by our own writer's rules.
class Writer {
 public:
  template<class T>
  Writer& put(T v) {
    const auto* p = reinterpret_cast<const std::byte*>(&v);
    bytes.insert(bytes.end(), p, p + sizeof v);
    return *this;
  }
  Writer& text(std::string_view s) {
    put<std::uint64_t>(s.size());
    for (const char c : s) bytes.push_back(static_cast<std::byte>(c));
    return *this;
  }
  Writer& header(std::uint64_t tensors, std::uint64_t keys) {
    return put<std::uint32_t>(0x46554747).put<std::uint32_t>(3).put(tensors).put(keys);
  }
  Writer& tensor_info(std::string_view name, std::vector<std::uint64_t> dims, std::uint32_t type,
                      std::uint64_t offset) {
    text(name).put(static_cast<std::uint32_t>(dims.size()));
    for (const auto d : dims) put(d);
    return put(type).put(offset);
  }
  Writer& pad(std::size_t payload) {
    bytes.resize((bytes.size() + 31) / 32 * 32 + payload);
    return *this;
  }
  Bytes bytes;
};

void expect_refused(const Writer& w, const char* reason) {
  const auto file = read(w.bytes);
  ASSERT_FALSE(file) << reason;
  EXPECT_NE(file.error().message.find(reason), std::string::npos) << file.error().message;
}

TEST(Gguf, lying_tables_are_refused) {
  expect_refused(Writer().header(2, 0).tensor_info("a", {8}, 0, 0).tensor_info("b", {8}, 0, 0).pad(64), "overlaps");
  expect_refused(Writer().header(2, 0).tensor_info("a", {8}, 0, 0).tensor_info("a", {8}, 0, 32).pad(64), "twice");
  expect_refused(Writer().header(1, 0).tensor_info("a", {8}, 0, 16).pad(64), "not a multiple");
  expect_refused(Writer().header(1, 0).tensor_info("a", {1ull << 62, 4}, 0, 0).pad(32), "impossible dimension");
  expect_refused(Writer().header(1, 0).tensor_info("a", {1ull << 24, 1ull << 24, 1ull << 24}, 0, 0).pad(32),
                 "impossible dimension");
  expect_refused(Writer().header(1, 0).tensor_info("a", {0}, 0, 0).pad(32), "impossible dimension");
  expect_refused(Writer().header(1, 0).tensor_info("a", {8}, 0, ~0ull - 31).pad(32), "'a' has the impossible offset");
  expect_refused(Writer().header(2, 0).tensor_info("a", {8}, 0, 0).tensor_info("b", {8}, 0, 32).pad(40),
                 "the file is cut off: it has ");
  expect_refused(Writer().header(2, 0).tensor_info("a", {8}, 0, 0).tensor_info("b", {8}, 0, 32).pad(16),
                 "bytes, and tensor 'b' ends at byte ");
  expect_refused(Writer().header(1, 0).tensor_info("a", {8}, 12345, 0).pad(32), "type 12345, which is not supported");
  expect_refused(Writer().header(1, 0).tensor_info("a", {256}, 17, 0).pad(32), "type IQ2_XS, which is not supported");
  expect_refused(Writer().header(1, 0).tensor_info("a", {8}, 2, 0).pad(32), "not a multiple of Q4_0's block");
  expect_refused(Writer().header(1, 0).tensor_info("a", {}, 0, 0).pad(32), "dimensions");
  expect_refused(Writer().header(1, 0).tensor_info("a", {1, 1, 1, 1, 1}, 0, 0).pad(32), "dimensions");
  for (const std::uint32_t alignment : {0u, 3u, 1u << 31})
    expect_refused(Writer().header(0, 1).text("general.alignment").put<std::uint32_t>(4).put(alignment).pad(0),
                   "lignment");
  expect_refused(Writer()
                     .header(0, 2)
                     .text("k")
                     .put<std::uint32_t>(4)
                     .put<std::uint32_t>(1)
                     .text("k")
                     .put<std::uint32_t>(4)
                     .put<std::uint32_t>(1)
                     .pad(0),
                 "twice");
  expect_refused(Writer().header(0, 1).text("k").put<std::uint32_t>(7).put<std::uint8_t>(2).pad(0), "as a boolean");
  expect_refused(
      Writer().header(0, 1).text("k").put<std::uint32_t>(9).put<std::uint32_t>(9).put<std::uint64_t>(1).pad(64),
      "array of arrays");
  for (const std::uint64_t count : {1ull << 31, 1ull << 63, ~0ull})
    expect_refused(Writer().header(0, 1).text("k").put<std::uint32_t>(9).put<std::uint32_t>(4).put(count).pad(64),
                   "items");
  expect_refused(Writer().header(0, 1).text("k").put<std::uint32_t>(8).put<std::uint64_t>(1ull << 31).pad(64),
                 "declares");
}

long peak_kb() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST(Gguf, a_lie_in_a_megabyte_costs_little_time_and_memory) {
  if (kSanitized) GTEST_SKIP() << "not run under sanitizers: time and memory are not the product's own there";
  Bytes bytes = Writer().header(10'000, 60'000).bytes;
  bytes.resize(1'000'000);  // zeros: empty keys of type u8
  const long before = peak_kb();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(read(bytes));
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  EXPECT_LT(ms, 100);
  EXPECT_LT(peak_kb() - before, 16 * 1024);
}

TEST(Gguf, split_files_are_joined_and_a_missing_part_is_named) {
  ScratchDirectory scratch;
  const auto part = [&](int number, const std::string& name) {
    Metadata m;
    if (number == 0) m = sample_metadata();
    m.set("split.count", MetaValue::u32(2));
    m.set("split.no", MetaValue::u32(static_cast<std::uint32_t>(number)));
    m.set("split.tensors.count", MetaValue::u32(2));
    EXPECT_TRUE(write_gguf(scratch / name, m, {tensor(number == 0 ? "x" : "y", DType::kF32, {4})}));
  };
  part(0, "m-00001-of-00002.gguf");
  const auto missing = GgufFile::open(scratch / "m-00001-of-00002.gguf");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find("m-00002-of-00002.gguf"), std::string::npos);
  part(1, "m-00002-of-00002.gguf");
  const auto file = GgufFile::open(scratch / "m-00001-of-00002.gguf");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_NE((*file)->find("x"), nullptr);
  EXPECT_NE((*file)->find("y"), nullptr);
  const auto second = GgufFile::open(scratch / "m-00002-of-00002.gguf");
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ((*second)->metadata().entries().size(), (*file)->metadata().entries().size());
  EXPECT_EQ((*second)->tensors().size(), 2u);
  const auto error = [&](const std::string& name) {
    const auto opened = GgufFile::open(scratch / name);
    return opened ? "opened" : opened.error().message;
  };
  // Two that changed places, one of another width, one of another model, and one that is no part at all.
  part(1, "swapped-00001-of-00002.gguf"), part(0, "swapped-00002-of-00002.gguf");
  EXPECT_NE(error("swapped-00001-of-00002.gguf").find("name must end in -00002-of-00002.gguf"), std::string::npos);
  EXPECT_TRUE(write_gguf(scratch / "whole-00001-of-00002.gguf", sample_metadata(), {tensor("x", DType::kF32, {4})}));
  EXPECT_NE(error("whole-00001-of-00002.gguf").find("says that it is whole"), std::string::npos);
  part(0, "w-1-of-2.gguf"), part(1, "w-2-of-2.gguf");
  EXPECT_NE(error("w-1-of-2.gguf").find("name must end in -00001-of-00002.gguf"), std::string::npos);
  part(0, "other-00001-of-00002.gguf");
  Metadata of_three;
  of_three.set("split.count", MetaValue::u32(3)), of_three.set("split.no", MetaValue::u32(1));
  EXPECT_TRUE(write_gguf(scratch / "other-00002-of-00002.gguf", of_three, {tensor("y", DType::kF32, {4})}));
  EXPECT_NE(error("other-00001-of-00002.gguf").find("other-00002-of-00002.gguf holds part 2 of 3"), std::string::npos);
  part(1, "none-00002-of-00002.gguf");
  EXPECT_TRUE(write_gguf(scratch / "none-00001-of-00002.gguf", sample_metadata(), {tensor("x", DType::kF32, {4})}));
  EXPECT_NE(error("none-00002-of-00002.gguf").find("none-00001-of-00002.gguf is named as a part"), std::string::npos);
}

TEST(Gguf, a_missing_file_is_an_error_that_names_it) {
  const auto file = GgufFile::open("/nonexistent/model.gguf");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, ErrorCode::kIo);
  EXPECT_NE(file.error().message.find("/nonexistent/model.gguf"), std::string::npos);
}

TEST(Metadata, getters_say_what_is_missing_or_mistyped) {
  const Metadata m = sample_metadata();
  EXPECT_NE(m.unsigned_integer("nope").error().message.find("'nope' is missing"), std::string::npos);
  EXPECT_NE(m.unsigned_integer("general.architecture").error().message.find("not an unsigned integer"),
            std::string::npos);
  EXPECT_NE(m.integer_in("a.u32", 8, 9).error().message.find("outside 8..9"), std::string::npos);
  EXPECT_EQ(m.integer_in("nope", 1, 9, 5).value(), 5u);
}

}  // namespace
}  // namespace llorch
