// Element types of stored tensors. Numbers are those of the GGUF specification, so a file's type field converts
// directly.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace llorch {

enum class DType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ3_XXS = 18,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
};

struct DTypeInfo {
  DType type;
  std::string_view name;
  std::uint32_t block;  // values in one block; 1 for plain types
  std::uint32_t bytes;  // bytes of one block
};

inline constexpr DTypeInfo kDTypes[] = {
    {DType::kF32, "F32", 1, 4},           {DType::kF16, "F16", 1, 2},         {DType::kBF16, "BF16", 1, 2},
    {DType::kQ4_0, "Q4_0", 32, 18},       {DType::kQ4_1, "Q4_1", 32, 20},     {DType::kQ5_0, "Q5_0", 32, 22},
    {DType::kQ5_1, "Q5_1", 32, 24},       {DType::kQ8_0, "Q8_0", 32, 34},     {DType::kQ2_K, "Q2_K", 256, 84},
    {DType::kQ3_K, "Q3_K", 256, 110},     {DType::kQ4_K, "Q4_K", 256, 144},   {DType::kQ5_K, "Q5_K", 256, 176},
    {DType::kQ6_K, "Q6_K", 256, 210},     {DType::kIQ4_NL, "IQ4_NL", 32, 18}, {DType::kMXFP4, "MXFP4", 32, 17},
    {DType::kIQ4_XS, "IQ4_XS", 256, 136}, {DType::kIQ3_S, "IQ3_S", 256, 110}, {DType::kIQ3_XXS, "IQ3_XXS", 256, 98},
    {DType::kTQ2_0, "TQ2_0", 256, 66},    {DType::kNVFP4, "NVFP4", 64, 36},   {DType::kI8, "I8", 1, 1},
    {DType::kI16, "I16", 1, 2},           {DType::kI32, "I32", 1, 4},         {DType::kI64, "I64", 1, 8},
    {DType::kF64, "F64", 1, 8},
};

/// nullptr for a type that we do not know.
[[nodiscard]] constexpr const DTypeInfo* find_dtype(std::uint32_t number) {
  for (const DTypeInfo& info : kDTypes)
    if (static_cast<std::uint32_t>(info.type) == number) return &info;
  return nullptr;
}

[[nodiscard]] constexpr const DTypeInfo* find_dtype(std::string_view name) {
  for (const DTypeInfo& info : kDTypes)
    if (info.name == name) return &info;
  return nullptr;
}

[[nodiscard]] constexpr const DTypeInfo& info(DType type) { return *find_dtype(static_cast<std::uint32_t>(type)); }

/// A type that a weight of a model can have (not an integer).
[[nodiscard]] constexpr bool is_weight_type(DType type) {
  return type < DType::kI8 || type == DType::kBF16 || type == DType::kTQ2_0 || type == DType::kMXFP4 ||
         type == DType::kNVFP4;
}

/// Bytes of one row of `values` values; `values` must be a multiple of the block.
[[nodiscard]] constexpr std::uint64_t row_bytes(DType type, std::uint64_t values) {
  const DTypeInfo& i = info(type);
  return values / i.block * i.bytes;
}

}  // namespace llorch
