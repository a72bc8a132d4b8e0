#include "format/quantization.h"

#include <algorithm>
#include <map>

namespace llorch {
namespace {

/// GGUF's general.file_type (docs/gguf.md of ggml, and the enumeration llama_ftype that it stands for).
struct FileType {
  std::uint32_t number;
  std::string_view name;
  std::string_view tensors;  // the type that most matrices of such a file have; empty: several
};
constexpr FileType kFileTypes[] = {
    {0, "F32", "F32"},      {1, "F16", "F16"},      {2, "Q4_0", "Q4_0"},      {3, "Q4_1", "Q4_1"},
    {7, "Q8_0", "Q8_0"},    {8, "Q5_0", "Q5_0"},    {9, "Q5_1", "Q5_1"},      {10, "Q2_K", "Q2_K"},
    {11, "Q3_K_S", "Q3_K"}, {12, "Q3_K_M", "Q3_K"}, {13, "Q3_K_L", "Q3_K"},   {14, "Q4_K_S", "Q4_K"},
    {15, "Q4_K_M", "Q4_K"}, {16, "Q5_K_S", "Q5_K"}, {17, "Q5_K_M", "Q5_K"},   {18, "Q6_K", "Q6_K"},
    {21, "Q2_K_S", "Q2_K"}, {22, "IQ3_XS", ""},     {23, "IQ3_XXS", ""},      {25, "IQ4_NL", "IQ4_NL"},
    {26, "IQ3_S", "IQ3_S"}, {27, "IQ3_M", "IQ3_S"}, {30, "IQ4_XS", "IQ4_XS"}, {32, "BF16", "BF16"},
    {37, "TQ2_0", "TQ2_0"}, {38, "MXFP4", "MXFP4"},
};

}  // namespace

std::string quantization_name(const WeightSource& source) {
  std::map<std::string_view, std::uint64_t> bytes;
  for (const TensorView& t : source.tensors()) bytes[info(t.type).name] += t.data.size();
  if (const auto number = source.metadata().unsigned_integer("general.file_type")) {
    const auto* stated = std::ranges::find(kFileTypes, *number, &FileType::number);
    if (stated != std::end(kFileTypes) && (stated->tensors.empty() || bytes.contains(stated->tensors)))
      return std::string(stated->name);
  }
  const auto most = std::ranges::max_element(bytes, {}, [](const auto& each) { return each.second; });
  return most == bytes.end() ? "" : std::string(most->first);
}

std::optional<std::uint32_t> file_type_number(std::string_view name) {
  const auto* type = std::ranges::find(kFileTypes, name, &FileType::name);
  return type == std::end(kFileTypes) ? std::nullopt : std::optional(type->number);
}

}  // namespace llorch
